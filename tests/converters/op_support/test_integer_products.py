from __future__ import annotations

import onnx

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.op_support.integer_products import scaling_paths


def test_all_that_turns_the_sums_into_floats_and_nothing_else() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[4, 8] x, uint8[8, 3] w, float two) => (float[4, 3] y)
        { r = Relu(x)  q, s, z = DynamicQuantizeLinear(r)  i = MatMulInteger(q, w, z)
          c = Cast<to=1>(i)  k = Mul(s, two)  m = Mul(c, k)  n = Mul(m, two)  y = Add(n, two) }"""
    flow = DataFlow.of(onnx_graph.load(onnx.parser.parse_model(text)).graph)
    assert [flow.nodes[index].outputs[0].name for index in sorted(scaling_paths(flow))] == ["c", "k", "m"]
