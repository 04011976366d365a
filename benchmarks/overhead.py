"""What the shim costs where nothing runs on the NPU: the same calls on onnxruntime and on ort_rknn, in one run.

Run it as ``python benchmarks/overhead.py``. The two are measured in turns, in rounds shorter than a time slice of the
scheduler, and the lower quartiles are compared: what other processes take away falls into the upper half.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ort_rknn

CPU = ["CPUExecutionProvider"]


def tiny() -> bytes:
    """Two nodes on [1, 4]: all that is measured is the way in and out."""
    nodes = [helper.make_node("Add", ["x", "x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    return _model(nodes, [1, 4], [1, 4])


def millisecond() -> bytes:
    """About a millisecond of matrix product on one thread."""
    weights = {"w": np.ones((1024, 1024), np.float32)}
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], [64, 1024], [64, 1024], weights)


def _model(nodes: list[Any], given: list[int], made: list[int], weights: dict[str, Any] | None = None) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, made)],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    content: bytes = model.SerializeToString()
    return content


def compare(one: Callable[[], Any], other: Callable[[], Any], calls: int, rounds: int = 400) -> tuple[float, float]:
    """Seconds per call of both, the lower quartile of many short rounds in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, kept in zip((one, other), times, strict=True):
            start = time.perf_counter()
            for _ in range(calls):
                function()
            kept.append((time.perf_counter() - start) / calls)
    return quantiles(times[0])[0], quantiles(times[1])[0]


def session(module: Any, model: bytes) -> Any:
    """A session on one thread."""
    options = module.SessionOptions()
    options.intra_op_num_threads = 1
    return module.InferenceSession(model, options, providers=CPU)


def main() -> int:
    """Print the table; the exit code is 1 when a limit is not kept."""
    table = Table(title="onnxruntime and ort_rknn, nothing on the NPU")
    for column in ("what", "onnxruntime", "ort_rknn", "ratio", "limit", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    kept = True

    def row(what: str, one: float, other: float, limit: float, extra: float = 0.0) -> None:
        nonlocal kept
        good = other <= one * limit + extra
        kept = kept and good
        said = f"+{extra * 1e6:.1f} us" if extra else f"{limit:.2f}"
        cells = (what, f"{one * 1e6:.2f} us", f"{other * 1e6:.2f} us", f"{other / one:.3f}", said)
        table.add_row(*cells, "ok" if good else "[red]over[/red]")

    for what, model, shape, calls, limit in (
        ("run, 2 nodes", tiny(), (1, 4), 40, 1.1),
        ("run, 1 ms model", millisecond(), (64, 1024), 1, 1.02),
    ):
        feed = {"x": np.ones(shape, np.float32)}
        one, other = session(onnxruntime, model), session(ort_rknn, model)
        row(what, *compare(lambda s=one, f=feed: s.run(None, f), lambda s=other, f=feed: s.run(None, f), calls), limit)

    def read(module: Any) -> Callable[[], Any]:
        return lambda: module.RunOptions

    row("attribute of the module", *compare(read(onnxruntime), read(ort_rknn), 2000), 1.0, 1e-7)
    content = tiny()
    row(
        "making a session, 2 nodes",
        *compare(lambda: session(onnxruntime, content), lambda: session(ort_rknn, content), 1),
        1.15,
    )
    Console().print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
