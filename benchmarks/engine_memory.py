"""Measures, in a process of its own, what opening a 100 MB model by its path keeps and takes at most; one JSON line.

python benchmarks/engine_memory.py [session|bare]
"""

from __future__ import annotations

import gc
import json
import re
import sys
import tempfile
from pathlib import Path

from engine_cases import SMALL
from engine_rig import Bare, Rig, stream

from ort_rknn_converters.onnx_file.blobs import FileBlob

PADDING = 100_000_000


def _mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found[1]) / 1000 if found else 0.0


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        rig = Rig(directory)
        code = directory / "big.rknn"
        code.write_bytes(SMALL.model(PADDING).data())
        model = directory / "big.onnx"
        SMALL.compiled(FileBlob(code)).save(model, embed=False)
        small = rig.session(SMALL)  # what is imported and allocated once is not the model's
        stream(small, SMALL.feed(), 60)
        small.close()
        rig.bare(SMALL).close()
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _mb("VmRSS")
        if sys.argv[1:] == ["bare"]:
            held = Bare(rig.emulator.path, SMALL, code)
            held.stream(60)
        else:
            rig.emulator.configure(latency_us=2000)
            session = rig.session(model)
            stream(session, SMALL.feed(), 60)
        print(json.dumps({"kept": _mb("VmRSS") - before, "peak": _mb("VmHWM") - before}))


if __name__ == "__main__":
    main()
