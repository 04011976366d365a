"""What a start costs: the import, the first session on onnxruntime alone, and a session of a model that was compiled.

Run it as ``python benchmarks/startup.py``. Every number is the shortest of fresh processes, taken in turns. The
compiled model is made once, before anything is measured: by the real toolkit where there is one, else by a stand-in
that compiles nothing (what is read and opened is the same). The finder of an editable installation, which every import
would go through, is taken out: who installed a wheel does not have it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PATH = os.pathsep.join(str(ROOT / folder) for folder in ("", "converters"))
RUNS = 9

_TIMED = """import sys, time
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
start = time.perf_counter()
{}
print(time.perf_counter() - start)"""
_NUMPY = "import numpy"
_OURS = "import numpy, ort_rknn"
_PLAIN_SESSION = "import onnxruntime as ort; s = ort.InferenceSession({!r}, providers=['CPUExecutionProvider'])"
_OUR_SESSION = "import ort_rknn as ort; s = ort.InferenceSession({!r}, providers=['CPUExecutionProvider'])"
_NPU_SESSION = (
    "import ort_rknn as ort\n"
    "options = {{'device': 'simulator', 'min_gain': 0, 'compile': 'load'}}\n"
    "s = ort.InferenceSession({!r}, providers=[('RKNNExecutionProvider', options)])\n"
    "assert s.get_providers()[0] == 'RKNNExecutionProvider', s.plan"
)


def timed(statement: str) -> float:
    """Seconds ``statement`` takes in a fresh interpreter, without the interpreter's own start."""
    environment = {**os.environ, "PYTHONPATH": PATH}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages are compiled, so are ours here
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement)], check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout.strip().splitlines()[-1])


def in_turns(*statements: str) -> list[float]:
    """The shortest times of several statements, measured in turns: whatever else the machine does only adds to them."""
    rounds = [[timed(statement) for statement in statements] for _ in range(1 + RUNS)][1:]
    return [min(column) for column in zip(*rounds, strict=True)]


def make_models(folder: Path) -> dict[str, Path]:
    """Convolution networks: a tiny one, one of 25 MB and one of 100 MB."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from benchmarks.models import resnet50

    def chain(channels: list[int], path: Path) -> Path:
        random = np.random.default_rng(0)
        nodes, weights, last = [], [], "x"
        for number, (given, made) in enumerate(pairwise([3, *channels])):
            kernel = (random.normal(size=(made, given, 3, 3)) / np.sqrt(given * 9)).astype(np.float32)
            weights.append(numpy_helper.from_array(kernel, f"w{number}"))
            nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1] * 4, strides=[2, 2]))
            nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
            last = f"r{number}"
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])
        size = 64 >> len(channels)
        made = helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, channels[-1], size, size])
        graph = helper.make_graph(nodes, "g", [given], [made], weights)
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
        return path

    largest = folder / "resnet50.onnx"
    onnx.save(resnet50(), largest)
    return {
        "tiny": chain([16, 16], folder / "tiny.onnx"),
        "25 MB": chain([64, 256, 512, 512, 512], folder / "medium.onnx"),
        "ResNet-50, 100 MB": largest,
    }


def find_toolkit() -> str:
    """Say where the toolkit is, for the cache of this benchmark hides our private one; what will compile."""
    from ort_rknn_converters.errors import ToolkitMissing
    from ort_rknn_converters.toolkit.setup.environment import PYTHON_VARIABLE, find_python

    try:
        os.environ[PYTHON_VARIABLE] = find_python().python
    except ToolkitMissing:
        return "a stand-in for the toolkit"
    return "the toolkit"


def compile_once(path: Path, by: str) -> None:
    """Put the model into the cache."""
    from ort_rknn import InferenceSession
    from tests.helpers.toolkits.fake import fake_toolkit

    providers = [("RKNNExecutionProvider", {"device": "simulator", "min_gain": 0, "compile": "load"})]
    with nullcontext() if by == "the toolkit" else fake_toolkit(Path(os.environ["ORT_RKNN_CACHE_DIR"])):
        InferenceSession(str(path), providers=providers)


def reading(path: Path) -> float:
    """Seconds it takes to read what the second start reads: the model, for its digest, and its compiled form."""
    entries = Path(os.environ["ORT_RKNN_CACHE_DIR"]) / "models"
    newest = max((entry for entry in entries.iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime)
    files = [path, *(file for file in newest.iterdir() if file.name != "npu_0.onnx")]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for file in files:
            file.read_bytes()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    """Print the table; the exit code is 1 when a limit is not kept."""
    table = Table(title="starts in fresh processes")
    for column in ("what", "compared with", "its time", "ours", "limit", ""):
        table.add_column(column, justify="left" if column in ("what", "compared with", "") else "right")
    kept = True

    def add(what: str, other: str, one: float, mine: float, factor: float, extra: float = 0.0) -> None:
        nonlocal kept
        limit = one * factor + extra
        kept = kept and mine <= limit
        cells = [f"{one * 1e3:.0f} ms", f"{mine * 1e3:.0f} ms ({mine / one:.2f} x)", f"{limit * 1e3:.0f} ms"]
        table.add_row(what, other, *cells, "ok" if mine <= limit else "[red]over[/red]")

    with tempfile.TemporaryDirectory() as folder:
        sys.path[:0] = [str(ROOT), str(ROOT / "converters")]
        by = find_toolkit()
        os.environ["ORT_RKNN_CACHE_DIR"] = str(Path(folder) / "cache")
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "bytecode")
        add("import ort_rknn", "import numpy x 1.3", *in_turns(_NUMPY, _OURS), 1.3)
        for name, path in make_models(Path(folder)).items():
            compile_once(path, by)
            statements = (text.format(str(path)) for text in (_PLAIN_SESSION, _OUR_SESSION, _NPU_SESSION))
            plain, ours, npu = in_turns(*statements)
            add(f"{name}: import, first session, CPU", "onnxruntime's x 1.15", plain, ours, 1.15)
            what = f"{name}: import, session from the cache, simulator"
            add(what, "onnxruntime's, CPU x 1.5, and reading", plain, npu, 1.5, reading(path))
    table.caption = f"compiled by {by}; each number is the shortest of {RUNS} processes, imports as from a wheel"
    Console(width=140).print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
