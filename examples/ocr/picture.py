"""Draws what was read as one PNG: the page with a box around each line, and beside it what ran where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["Line", "Network", "draw"]

PAPER, INK, SOFT, RULE = "#f3f2ee", "#1c2028", "#767d8a", "#dcdad2"
NPU, CPU, GOOD, BAD = "#e27a30", "#3a6ebe", "#2e8c54", "#c83232"
SCALE = 2  # drawn at twice the size a page shows it in
PANEL, MARGIN, HEAD = 470, 40, 104


@dataclass(frozen=True)
class Line:
    """A line of text that was read.

    Attributes:
        text: The text.
        score: How sure the program is, 0 to 1.
        box: Four corners in pixels of the page.
        same: onnxruntime alone read the same.
    """

    text: str
    score: float
    box: Sequence[tuple[float, float]]
    same: bool


@dataclass(frozen=True)
class Network:
    """Where a network ran.

    Attributes:
        name: What it is for.
        npu: Its nodes on the NPU.
        cpu: Its nodes on the CPU.
        shapes: What it was fed, one text a shape.
    """

    name: str
    npu: int
    cpu: int
    shapes: tuple[str, ...]


def _font(size: float) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size * SCALE)


class _Canvas:
    """Pillow in the page's own pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
        self.pen = ImageDraw.Draw(self.image, "RGBA")

    def text(self, x: float, y: float, text: str, size: float = 14, fill: str = INK, anchor: str = "la") -> float:
        self.pen.text((x * SCALE, y * SCALE), text, fill=fill, font=_font(size), anchor=anchor)
        return float(self.pen.textlength(text, font=_font(size))) / SCALE

    def bar(self, x: float, y: float, w: float, h: float, fill: str, outline: str | None = None) -> None:
        box = (x * SCALE, y * SCALE, (x + w) * SCALE, (y + h) * SCALE)
        self.pen.rounded_rectangle(box, radius=min(5, h / 2) * SCALE, fill=fill, outline=outline, width=SCALE)


def draw(path: Path, page: Path, lines: Sequence[Line], networks: Sequence[Network], subtitle: str) -> None:
    """Write the picture to ``path``."""
    sheet = Image.open(page).convert("RGB")
    width, height = MARGIN * 3 + sheet.width + PANEL, HEAD + max(sheet.height, 620) + MARGIN
    canvas = _Canvas(width, height)
    canvas.text(MARGIN, 26, "A page, read by a program that knows nothing of NPUs", 28)
    canvas.text(MARGIN, 66, subtitle, 15, SOFT)

    left, top = MARGIN, HEAD
    canvas.bar(left + 4, top + 6, sheet.width, sheet.height, "#00000018")
    canvas.image.paste(sheet.resize((sheet.width * SCALE, sheet.height * SCALE), Image.Resampling.LANCZOS),
                       (left * SCALE, top * SCALE))  # fmt: skip
    canvas.pen.rectangle(
        (left * SCALE, top * SCALE, (left + sheet.width) * SCALE, (top + sheet.height) * SCALE), outline=RULE, width=2
    )
    for number, line in enumerate(lines, 1):
        color = GOOD if line.same else BAD
        corners = [((left + x) * SCALE, (top + y) * SCALE) for x, y in line.box]
        canvas.pen.polygon(corners, fill=color + "1c")
        canvas.pen.line([*corners, corners[0]], fill=color, width=2 * SCALE, joint="curve")
        x, y = line.box[0]
        canvas.bar(left + x - 24, top + y, 20, 20, color)
        canvas.text(left + x - 14, top + y + 10, str(number), 12, "#ffffff", "mm")

    x, y = MARGIN * 2 + sheet.width, float(HEAD)
    canvas.text(x, y, "What was read", 18)
    y += 34
    for number, line in enumerate(lines, 1):
        canvas.bar(x, y, 20, 20, GOOD if line.same else BAD)
        canvas.text(x + 10, y + 10, str(number), 12, "#ffffff", "mm")
        canvas.text(x + 32, y + 10, line.text, 15, anchor="lm")
        canvas.text(x + PANEL, y + 10, f"{line.score:.0%}", 13, SOFT, "rm")
        y += 26
    y += 22
    canvas.text(x, y, "What ran where", 18)
    y += 36
    for network in networks:
        total = max(network.npu + network.cpu, 1)
        canvas.text(x, y, network.name[:1].upper() + network.name[1:], 15)
        canvas.text(x + PANEL, y + 1, f"{network.npu} of {total} nodes on the NPU", 13, SOFT, "ra")
        canvas.bar(x, y + 24, PANEL, 12, CPU)
        if network.npu:
            canvas.bar(x, y + 24, max(PANEL * network.npu / total, 12), 12, NPU)
        canvas.text(x, y + 42, "fed with " + ", ".join(network.shapes), 12, SOFT)
        y += 72
    canvas.bar(x, y, 12, 12, NPU)
    end = x + 18 + canvas.text(x + 18, y - 2, "simulated NPU", 13, SOFT)
    canvas.bar(end + 22, y, 12, 12, CPU)
    end += 40 + canvas.text(end + 40, y - 2, "CPU", 13, SOFT)
    canvas.bar(end + 22, y, 12, 12, GOOD)
    canvas.text(end + 40, y - 2, "the same text as with onnxruntime", 13, SOFT)
    canvas.image.save(path)
