from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.op_support.decide import decide
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.prepare import prepare
from ort_rknn_converters.targets import find_target
from tests.helpers.op_rule import reason
from tests.helpers.quantized import qdq

BYTES = ("uint8", [1, 4, 8, 8])
FLOATS = ("float", [1, 4, 8, 8])


def nodes(model: ir.Model) -> dict[str, str | None]:
    return {node.name or "": decide(node, find_target("rk3588")) for node in model.graph}


def test_a_quantized_network_is_taken_whole() -> None:
    prepared = prepare(onnx_graph.load(qdq()), ConvertOptions())
    assert set(nodes(prepared.model).values()) == {None}


def test_its_weights_stay_whole_numbers() -> None:
    model = prepare(onnx_graph.load(qdq()), ConvertOptions()).model
    assert {value.dtype for name, value in model.graph.initializers.items() if name in ("w0", "w1")} == {
        ir.DataType.INT8
    }


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
def test_one_without_the_other_is_not(op: str) -> None:
    there, back = (FLOATS, BYTES) if op == "QuantizeLinear" else (BYTES, FLOATS)
    other = {"QuantizeLinear": "DequantizeLinear", "DequantizeLinear": "QuantizeLinear"}[op]
    assert reason(op, [there, np.array(0.5, np.float32)], [back]) == f"{op} without its {other}"
