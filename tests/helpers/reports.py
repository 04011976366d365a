"""Results of all kinds, for tests of reports."""

from __future__ import annotations

from typing import Any

import numpy as np

from ort_rknn_conformance.case import Settings
from ort_rknn_conformance.flows import find_flow
from ort_rknn_conformance.report import json_report
from ort_rknn_conformance.report.baseline import Difference
from ort_rknn_conformance.report.document import Document
from ort_rknn_conformance.result import CaseResult, GraphNode, LayerError, OutputResult
from ort_rknn_conformance.run.compare import Tolerance, compare_output

HOSTILE = "</script><b>&\x00 [[DATA]] | x"


def output(name: str = "y", *, off: float = 1e-3) -> OutputResult:
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(4, 10)
    return compare_output(name, [x], [x + np.float32(off)], Tolerance(5e-3, "a test"))


def model_result(**changes: Any) -> CaseResult:
    """One model looked at closely."""
    fields: dict[str, Any] = {
        "outputs": (output(),),
        "nodes": 3,
        "npu_nodes": 2,
        "cpu_reasons": {"recurrent": 1},
        "samples": 4,
        "seconds": 1.5,
        "ops": {"Conv": 1, "Relu": 1, "LSTM": 1},
        "graph": (
            GraphNode("a", "Conv", "NPU", "", "npu_0"),
            GraphNode("b", "Relu", "NPU", "", "npu_0", (0,)),
            GraphNode("c", "LSTM", "CPU", "recurrent <x>", None, (0, 1)),
        ),
        "accuracy": {"cpu_top1": 1.0, "top1": 0.75},
        "layers": (LayerError("a", "Conv", "t", float("inf"), 1e-3, 7e4, 3, "--cpu-node a"),),
    }
    return CaseResult("m.onnx", changes.pop("verdict", "right"), **{**fields, **changes})


def many_results() -> tuple[CaseResult, ...]:
    """Cases with every kind of end, and a name and a message that want to break out of any format."""
    ops = {"Relu": 1}
    return (
        *(CaseResult(f"node/test_{n:03}", "right", "", (output(off=10.0**-n),), 1, 1, ops=ops) for n in range(3, 9)),
        CaseResult(f"node/{HOSTILE}", "wrong", HOSTILE, (output(off=1.0),), 2, 1, {HOSTILE: 1}, 1, 0.1, {HOSTILE: 1}),
        CaseResult("simple/crash", "crashed", "SIGSEGV", ops={"Conv": 2}),
        CaseResult("simple/slow", "timeout", "no answer within 1 s"),
        CaseResult("simple/none", "unsupported", "CPU onnxruntime: no"),
    )


def document(*results: CaseResult, difference: Difference | None = None, title: str = "A run") -> Document:
    head = json_report.header(find_flow("simulator"), Settings())
    return Document(title, head, results, 12.3, difference)
