"""What a start costs: the import, the first session on onnxruntime alone, and a session of a model that was compiled.

Run it as ``python benchmarks/startup.py``. Every number is the lower quartile of fresh processes, taken in turns. The
compiled model is made once, before anything is measured: by the real toolkit where there is one, else by a stand-in
that compiles nothing (what is read and opened is the same).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import quantiles

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PATH = os.pathsep.join(str(ROOT / folder) for folder in ("", "converters"))
RUNS = 9

_TIMED = "import time; start = time.perf_counter()\n{}\nprint(time.perf_counter() - start)"
_NUMPY = "import numpy"
_OURS = "import numpy, ort_rknn"
_PLAIN_SESSION = "import onnxruntime as ort; s = ort.InferenceSession({!r}, providers=['CPUExecutionProvider'])"
_OUR_SESSION = "import ort_rknn as ort; s = ort.InferenceSession({!r}, providers=['CPUExecutionProvider'])"
_NPU_SESSION = (
    "import ort_rknn as ort\n"
    "s = ort.InferenceSession({!r}, providers=[('RKNNExecutionProvider', {{'device': 'simulator', 'min_gain': 0}})])\n"
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
    """The lower quartiles of several statements, measured in turns: other processes fall into the upper half."""
    rounds = [[timed(statement) for statement in statements] for _ in range(1 + RUNS)][1:]
    return [quantiles(column)[0] for column in zip(*rounds, strict=True)]


def make_model(folder: Path) -> Path:
    """A convolution network of 25 MB, compiled into the cache in ``folder``."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for number, (given, made) in enumerate([(3, 64), (64, 256), (256, 512), (512, 512), (512, 512)]):
        kernel = (random.normal(size=(made, given, 3, 3)) / np.sqrt(given * 9)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1] * 4, strides=[2, 2]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        last = f"r{number}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, 512, 2, 2])],
        weights,
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def compile_once(path: Path) -> str:
    """Put the model into the cache; says by what."""
    sys.path[:0] = [str(ROOT), str(ROOT / "converters")]
    from ort_rknn_converters.errors import ToolkitMissing
    from ort_rknn_converters.toolkit.environment import find_python

    from ort_rknn import InferenceSession

    providers = [("RKNNExecutionProvider", {"device": "simulator", "min_gain": 0})]
    try:
        find_python()
    except ToolkitMissing:
        from tests.helpers.fake_toolkit import fake_toolkit

        with fake_toolkit(Path(os.environ["ORT_RKNN_CACHE_DIR"])):
            InferenceSession(str(path), providers=providers)
        return "a stand-in for the toolkit"
    InferenceSession(str(path), providers=providers)
    return "the toolkit"


def main() -> int:
    """Print the table; the exit code is 1 when a limit is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ORT_RKNN_CACHE_DIR"] = str(Path(folder) / "cache")
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "bytecode")
        path = make_model(Path(folder))
        by = compile_once(path)
        name = str(path)
        numpy_s, ours_s = in_turns(_NUMPY, _OURS)
        plain_s, our_plain_s, npu_s = in_turns(
            *(text.format(name) for text in (_PLAIN_SESSION, _OUR_SESSION, _NPU_SESSION))
        )
    table = Table(title=f"starts in fresh processes, the model compiled by {by}")
    for column in ("what", "compared with", "its time", "ours", "ratio", "limit", ""):
        table.add_column(column, justify="left" if column in ("what", "compared with", "") else "right")
    kept = True
    for what, other, one, mine, limit in (
        ("import ort_rknn", "import numpy", numpy_s, ours_s, 1.3),
        ("import and first session, CPU", "onnxruntime's", plain_s, our_plain_s, 1.15),
        ("import and session from the cache, simulator", "onnxruntime's, CPU", plain_s, npu_s, 1.5),
    ):
        good = mine <= one * limit
        kept = kept and good
        cells = (f"{one * 1e3:.1f} ms", f"{mine * 1e3:.1f} ms", f"{mine / one:.2f}", f"{limit:.2f}")
        table.add_row(what, other, *cells, "ok" if good else "[red]over[/red]")
    Console().print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
