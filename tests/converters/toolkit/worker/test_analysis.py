"""The vendor's accuracy analysis as numbers: its table is read, and relative errors are heard beside it."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from onnx import helper
from onnx.parser import parse_graph

from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment
from ort_rknn_converters.toolkit.worker.analysis import listen, rows

TABLE = """\
# simulator_error: calculate the output error of each layer of the simulator (compared to the 'golden' value).
layer_name             simulator_error
                   entire              single
                cos      euc        cos      euc
------------------------------------------------------
[Input] x     1.00000 | 0.00000   1.00000 | 0.00000
[exDataConvert] x_int8
[Conv] a name   1.00000 | 0.00531   1.00000 | 0.00531
[exNorm] y      nan | inf   1.00000 | 0.00254
"""


def test_rows_of_the_table() -> None:
    assert rows(TABLE, [0.0, 0.0, 0.1, 0.2, 0.3, 0.4]) == [
        {"op": "Conv", "tensor": "a name", "entire": 0.1, "alone": 0.2},
        {"op": "exNorm", "tensor": "y", "entire": 0.3, "alone": 0.4},
    ]


def test_rows_without_numbers_are_left_out_though_they_were_heard() -> None:
    found = rows(TABLE, [0.0, 0.0, 0.5, 0.6, 0.1, 0.2, 0.3, 0.4])
    assert [(row["tensor"], row["alone"]) for row in found] == [("a name", 0.2), ("y", 0.4)]


def test_numbers_that_do_not_fit_the_table_are_left_out() -> None:
    assert [row["alone"] for row in rows(TABLE, [0.0] * 5)] == [None, None]


def test_what_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scipy", "scipy.spatial", "scipy.spatial.distance"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    heard = listen()
    distance = sys.modules["scipy.spatial.distance"]
    golden, found = np.array([3.0, 4.0]), np.array([3.0, 4.5])
    assert distance.euclidean(golden, found) == 0.5
    assert distance.cosine(golden, golden) == pytest.approx(0)
    assert distance.euclidean(np.zeros(2), np.zeros(2)) == 0
    assert distance.euclidean(np.zeros(2), np.ones(2)) > 0
    assert heard == [0.1, 0.0, float("inf")]


@pytest.mark.toolkit
def test_the_toolkit_analyses_a_segment() -> None:
    graph = parse_graph("g (float[1,8] x) => (float[1,8] y) { a = Sigmoid (x) y = Mul (a, x) }")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    feed = {"x": np.linspace(-3, 3, 8, dtype=np.float32).reshape(1, 8)}
    result = compile_segment(CompileRequest(model, "rk3588", options={"analyse": feed}))
    assert result.analysis
    last = result.analysis[-1]
    assert last.entire is not None
    assert 0 < last.entire < 5e-3
