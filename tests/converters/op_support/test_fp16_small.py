from __future__ import annotations

import onnx
import pytest

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.op_support.fp16_small import ROOT_REASON, VANISHING_REASON, small_paths


def found(body: str) -> dict[str, str]:
    """Op type -> reason of the nodes found, in a model of x, y [4, 8] and a few constants."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[4, 8] x, float[4, 8] y) => (float[4, 8] z)
        <float two = {{2}}, float minus_two = {{-2}}, float eps = {{1e-5}}, float tiny = {{1e-10}}>
        {{ {body} }}"""
    model = onnx_graph.load(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    flow = DataFlow.of(model.graph)
    return {flow.nodes[index].op_type: reason for index, reason in small_paths(flow).items()}


def test_distances_by_the_binomial_formula() -> None:
    body = "a = Mul(x, x) b = Mul(y, y) c = Mul(x, y) d = Mul(c, minus_two) e = Add(a, b) f = Add(e, d) z = Sqrt(f)"
    assert set(found(body)) == {"Mul", "Add", "Sqrt"}
    assert set(found(body).values()) == {ROOT_REASON}


@pytest.mark.parametrize("after", ["z = Sqrt(d)", "e = Add(d, eps) z = Sqrt(e)", "e = Mul(d, two) z = Sqrt(e)"])
def test_the_mean_of_squares_less_the_square_of_the_mean(after: str) -> None:
    body = "a = Pow(x, two) b = ReduceMean<axes=[1]>(a) m = ReduceMean<axes=[1]>(x) c = Mul(m, m) d = Sub(b, c)"
    assert "Sub" in found(f"{body} {after}")


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul(x, x) b = Mul(y, y) c = Add(a, b) z = Sqrt(c)",  # the size of complex numbers
        "a = Sub(x, y) b = Pow(a, two) c = ReduceMean<axes=[1]>(b) d = Add(c, eps) z = Sqrt(d)",  # a deviation
        "a = Sub(x, y) b = Relu(a) z = Sqrt(b)",
        "a = Sub(x, y) b = Clip(a, eps) z = Sqrt(b)",
        "z = Sqrt(x)",
    ],
)
def test_roots_of_what_is_never_negative_are_fine(body: str) -> None:
    assert not found(body)


@pytest.mark.parametrize("floor", ["Clip(a, tiny)", "Max(a, tiny)", "Add(tiny, a)"])
def test_logarithms_of_next_to_nothing(floor: str) -> None:
    op = floor.partition("(")[0]
    assert found(f"a = Mul(x, x) b = {floor} c = Transpose(b) d = Log(c) z = Transpose(d)") == dict.fromkeys(
        (op, "Transpose", "Log"), VANISHING_REASON
    )


@pytest.mark.parametrize("floor", ["Clip(a, eps)", "Max(a, eps)", "Add(eps, a)", "Abs(a)"])
def test_other_logarithms_are_fine(floor: str) -> None:
    assert not found(f"a = Mul(x, x) b = {floor} z = Log(b)")
