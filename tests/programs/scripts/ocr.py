"""Reads drawn pages with RapidOCR: three sessions, providers with options, metadata, shapes that move."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "examples" / "ocr"))
from page import NOTICE, POSTER, TICKET, draw
from rapidocr_onnxruntime import RapidOCR

reader = RapidOCR()
for page in {"one": [TICKET], "all": [TICKET, NOTICE, POSTER]}[sys.argv[1]]:
    found, _ = reader(str(draw(page, Path(f"{page.name}.png"))))
    for box, text, _score in found:
        print(text, [[round(x / 8), round(y / 8)] for x, y in box])
