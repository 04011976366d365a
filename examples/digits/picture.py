"""Draws what the demo found as one PNG: digits with both answers, and how far apart all the answers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Floats = NDArray[np.floating[Any]]
Colour = tuple[int, int, int]

PAPER: Colour = (250, 250, 247)
INK: Colour = (28, 32, 40)
SOFT: Colour = (120, 126, 138)
LINE: Colour = (222, 222, 216)
CPU: Colour = (58, 110, 190)
NPU: Colour = (226, 122, 48)
GOOD: Colour = (46, 140, 84)
BAD: Colour = (200, 50, 50)

SCALE = 2  # drawn at twice the size a page shows it in, so that it is sharp everywhere
WIDTH, HEIGHT = 1120, 900
MARGIN = 40
COLUMNS, ROWS = 8, 3
TILE_W, TILE_H = 130, 164
DIGIT = 72


class Canvas:
    """Pillow with one unit of measure: the page's pixels."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, size: int = 13, fill: Colour = INK, anchor: str = "la") -> None:
        font = ImageFont.load_default(size=size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, fill=fill, font=font, anchor=anchor)

    def box(self, x: float, y: float, w: float, h: float, fill: Colour, outline: Colour | None = None) -> None:
        corners = (x * SCALE, y * SCALE, (x + w) * SCALE, (y + h) * SCALE)
        self._draw.rounded_rectangle(corners, radius=2 * SCALE, fill=fill, outline=outline, width=SCALE)

    def line(self, x0: float, y0: float, x1: float, y1: float, fill: Colour = LINE) -> None:
        self._draw.line((x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE), fill=fill, width=SCALE)

    def dot(self, x: float, y: float, radius: float, fill: Colour) -> None:
        box = ((x - radius) * SCALE, (y - radius) * SCALE, (x + radius) * SCALE, (y + radius) * SCALE)
        self._draw.ellipse(box, fill=fill)

    def digit(self, x: float, y: float, pixels: NDArray[np.uint8]) -> None:
        """An 8 x 8 image, dark on light, enlarged without smoothing: these are the pixels the network sees."""
        grey = (255 - pixels.astype(np.float32) * (255 / 16)).clip(0, 255).astype(np.uint8)
        big = Image.fromarray(grey).resize((DIGIT * SCALE, DIGIT * SCALE), Image.Resampling.NEAREST)
        self.image.paste(big.convert("RGB"), (int(x * SCALE), int(y * SCALE)))
        self._draw.rectangle(
            (x * SCALE, y * SCALE, (x + DIGIT) * SCALE, (y + DIGIT) * SCALE), outline=LINE, width=SCALE
        )


def draw(
    path: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    cpu: Floats,
    npu: Floats,
    *,
    limit: float,
    target: str,
) -> None:
    """Write the picture.

    Args:
        path: The PNG.
        images: uint8 [n, 8, 8], 0 to 16.
        labels: int64 [n].
        cpu: CPU onnxruntime's probabilities, float32 [n, 10].
        npu: The NPU path's.
        limit: Largest difference the demo accepts.
        target: SoC name.
    """
    difference = np.abs(cpu - npu).max(axis=1)
    agree = int(np.count_nonzero(cpu.argmax(1) == npu.argmax(1)))
    canvas = Canvas()
    canvas.text(MARGIN, 30, f"{len(labels)} handwritten digits, two answers each", 28)
    canvas.text(
        MARGIN,
        70,
        f"One program, one ONNX file: onnxruntime on the CPU, and ort_rknn as on the NPU of an {target}.",
        14,
        SOFT,
    )
    canvas.text(
        MARGIN,
        90,
        "The NPU is simulated: its 16-bit numbers are computed here, by our own simulator. No board was used.",
        14,
        SOFT,
    )
    right = WIDTH - MARGIN
    canvas.text(right, 30, f"{agree} of {len(labels)} agree", 28, GOOD if agree == len(labels) else BAD, "ra")
    _tiles(canvas, 134, images, labels, cpu, npu, difference)
    _scatter(canvas, 134 + 34 + ROWS * TILE_H + 26, cpu, difference, limit)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.image.save(path, optimize=True)


def _tiles(
    canvas: Canvas,
    top: int,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    cpu: Floats,
    npu: Floats,
    difference: Floats,
) -> None:
    """The digits on which the two are farthest apart."""
    canvas.text(MARGIN, top, f"The {COLUMNS * ROWS} with the largest differences", 17)
    x = WIDTH - MARGIN - 300
    for name, colour, at in (("CPU", CPU, 0), ("NPU (simulated)", NPU, 64)):
        canvas.box(x + 130 + at, top + 4, 10, 10, colour)
        canvas.text(x + 145 + at, top + 2, name, 12, SOFT)
    for place, number in enumerate(np.argsort(-difference)[: COLUMNS * ROWS]):
        left = MARGIN + (place % COLUMNS) * TILE_W
        y = top + 34 + (place // COLUMNS) * TILE_H
        canvas.digit(left, y, images[number])
        canvas.text(left + DIGIT + 8, y + 2, f"is {labels[number]}", 12, SOFT)
        for answer, colour, row in ((cpu, CPU, 0), (npu, NPU, 1)):
            best = int(answer[number].argmax())
            canvas.text(left + DIGIT + 8, y + 24 + row * 25, str(best), 20, colour)
            share = f"{answer[number][best]:.2%}"
            bar = y + DIGIT + 10 + row * 19
            canvas.box(left, bar, DIGIT, 9, LINE)
            canvas.box(left, bar, max(4.0, DIGIT * float(answer[number][best])), 9, colour)
            canvas.text(left + DIGIT + 5, bar - 2, share, 11, colour)
        canvas.text(left, y + DIGIT + 47, f"differ by {difference[number]:.5f}", 11, SOFT)


def _scatter(canvas: Canvas, top: int, cpu: Floats, difference: Floats, limit: float) -> None:
    """Every digit: how sure the CPU is, against how far the other answer is from it (logarithmic)."""
    canvas.text(MARGIN, top, "All of them: largest difference in any of the ten probabilities", 17)
    left, bottom, right = MARGIN + 70, HEIGHT - 62, WIDTH - MARGIN
    upper = top + 36
    low, high = -6.0, -1.0

    def height(value: float) -> float:
        exponent = min(max(np.log10(max(value, 10**low)), low), high)
        return float(bottom - (exponent - low) / (high - low) * (bottom - upper))

    for exponent in range(int(low), int(high) + 1):
        y = height(10.0**exponent)
        canvas.line(left, y, right, y)
        canvas.text(left - 10, y, f"{10.0**exponent:f}".rstrip("0"), 11, SOFT, "rm")
    y = height(limit)
    canvas.line(left, y, right, y, BAD)
    canvas.text(right, y - 4, f"limit of this demo: {limit:g}", 12, BAD, "rd")
    sure = cpu.max(axis=1)
    for certainty, value in zip(sure, difference, strict=True):
        x = left + (float(certainty) - 0.3) / 0.7 * (right - left)
        canvas.dot(x, height(float(value)), 2.4, NPU)
    for share in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        canvas.text(left + (share - 0.3) / 0.7 * (right - left), bottom + 8, f"{share:.0%}", 11, SOFT, "ma")
    canvas.text((left + right) / 2, bottom + 28, "how sure the CPU is of its answer", 12, SOFT, "ma")
