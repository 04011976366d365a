from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph.dataflow import DataFlow, boundary
from tests.helpers.graph_builders import chain

CAPTURING = """
<ir_version: 8, opset_import: ["": 17]>
agraph (float[2] x, bool c) => (float[2] y) {
    a = Relu(x)
    b = Tanh(x)
    y = If(c) <then_branch = t () => (float[2] p) { p = Add(a, b) }, else_branch = e () => (float[2] q) { q = Neg(a) }>
}
"""


def test_what_a_body_captures_is_read() -> None:
    model = ir.from_proto(onnx.parser.parse_model(CAPTURING))
    flow = DataFlow.of(model.graph)
    assert [value.name for value in flow.reads[2]] == ["c", "a", "b"]
    assert flow.before[2] == (0, 1)
    entering, leaving = boundary(flow, [0, 1])
    assert [value.name for value in entering] == ["x"]
    assert [value.name for value in leaving] == ["a", "b"]


def test_nodes_out_of_order_are_sorted() -> None:
    model = chain("a = Relu(x)", "b = Tanh(a)", "y = Neg(b)")
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)
    assert [node.name for node in DataFlow.of(model.graph).nodes] == ["a", "b", "y"]


def test_a_cycle_is_an_error_that_names_a_node() -> None:
    model = chain("a = Add(x, x)", "y = Relu(a)")
    model.graph[0].replace_input_with(1, model.graph[1].outputs[0])
    with pytest.raises(ModelError, match="cycle through"):
        DataFlow.of(model.graph)
