"""A program that knows nothing of NPUs: it reads the text on pictures with RapidOCR, which uses onnxruntime.

python read_page.py page.png ...
"""

from __future__ import annotations

import json
import sys

from rapidocr_onnxruntime import RapidOCR


def main() -> None:
    """One line of JSON for each picture: the lines of text, from top to bottom, each with its box and score."""
    reader = RapidOCR()
    for name in sys.argv[1:]:
        found, _ = reader(name)
        lines = [{"text": text, "score": round(float(score), 3), "box": box} for box, text, score in found or ()]
        print(json.dumps({"picture": name, "lines": lines}, default=float))


if __name__ == "__main__":
    main()
