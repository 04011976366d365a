"""Reads a drawn page with RapidOCR 3 and the networks of PP-OCRv6 it brings along: what it asks of a session is new."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "examples" / "ocr"))
from page import TICKET, draw
from rapidocr import RapidOCR

reader = RapidOCR()
found = reader(str(draw(TICKET, Path("ticket.png"))))
for text in found.txts:
    print(text)
