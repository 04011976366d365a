"""Draws pages of text to be read: known words, several sizes of letters, with nothing but Pillow and its own font."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["LABEL", "NOTICE", "POSTER", "TICKET", "Page", "draw"]


@dataclass(frozen=True)
class Page:
    """What is written on a page.

    Attributes:
        name: Short name.
        size: Width and height in pixels.
        lines: Text, left edge, top edge, height of the letters in pixels, color.
    """

    name: str
    size: tuple[int, int]
    lines: tuple[tuple[str, int, int, int, str], ...]


_INK, _SOFT, _BLUE = "#1d2733", "#5b6b7b", "#1f5fae"

POSTER = Page(
    "poster",
    (940, 640),
    (
        ("Harbour Lights", 70, 60, 84, _BLUE),
        ("An evening of sea songs", 70, 186, 50, _INK),
        ("Saturday 14 November 2026", 70, 300, 40, _INK),
        ("Doors open at 19:30", 70, 376, 40, _INK),
        ("Tickets 12.50 at the pier office", 70, 470, 34, _SOFT),
        ("Bring a warm coat", 70, 540, 34, _SOFT),
    ),
)
TICKET = Page(
    "ticket",
    (620, 420),
    (
        ("Night Train", 40, 36, 56, _BLUE),
        ("Platform 7", 40, 140, 40, _INK),
        ("Departure 22:45", 40, 220, 40, _INK),
        ("Seat 36 Window", 40, 310, 32, _SOFT),
    ),
)
NOTICE = Page(
    "notice",
    (1280, 400),
    (
        ("Library closes early today", 60, 60, 76, _INK),
        ("Books may be returned at the side door", 60, 190, 44, _SOFT),
        ("We open again on Monday at nine", 60, 280, 44, _BLUE),
    ),
)
LABEL = Page(
    "label",
    (444, 300),
    (
        ("Fragile", 50, 50, 64, _INK),
        ("This side up", 50, 170, 48, _BLUE),
    ),
)


def draw(page: Page, path: Path) -> Path:
    """Write the page as a picture; returns ``path``."""
    image = Image.new("RGB", page.size, "#fdfcf8")
    pen = ImageDraw.Draw(image)
    for text, left, top, height, color in page.lines:
        pen.text((left, top), text, fill=color, font=ImageFont.load_default(height))
    image.save(path)
    return path
