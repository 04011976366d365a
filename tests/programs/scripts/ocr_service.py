"""Reads pages with RapidOCR as their names come in, one a line; answers each with one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "examples" / "ocr"))
import page as pages
from rapidocr_onnxruntime import RapidOCR

reader = RapidOCR()
for name in sys.stdin:
    picture = pages.draw(getattr(pages, name.strip()), Path(f"{name.strip()}.png"))
    began = time.perf_counter()
    found, _ = reader(str(picture))
    answer = {"text": [text for _, text, _ in found], "seconds": time.perf_counter() - began}
    print(json.dumps(answer), flush=True)
