from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.partition.cost_model import estimate, flops, run_seconds
from ort_rknn_converters.partition.node_work import node_works, value_bytes
from ort_rknn_converters.partition.soc_costs import recorded_costs
from ort_rknn_converters.targets import find_target
from tests.helpers.op_rule import floats, node

IMAGE = ("float", [1, 64, 56, 56])


def test_operations_of_heavy_nodes() -> None:
    conv = node("Conv", [IMAGE, floats(128, 64, 3, 3)], [("float", [1, 128, 54, 54])])
    assert flops(conv) == 2 * 128 * 54 * 54 * 64 * 9
    depthwise = node("Conv", [IMAGE, floats(64, 1, 3, 3)], [("float", [1, 64, 54, 54])], group=64)
    assert flops(depthwise) == 2 * 64 * 54 * 54 * 9
    product = node("MatMul", [("float", [1, 8, 32, 16]), ("float", [1, 8, 16, 24])], [("float", [1, 8, 32, 24])])
    assert flops(product) == 2 * 8 * 32 * 24 * 16
    turned = node("Gemm", [("float", [16, 4]), floats(16, 8)], [("float", [4, 8])], transA=1)
    assert flops(turned) == 2 * 4 * 8 * 16
    up = node("ConvTranspose", [("float", [1, 8, 5, 5]), floats(8, 4, 2, 2)], [("float", [1, 4, 10, 10])])
    assert flops(up) == 2 * 8 * 25 * 4 * 4


def test_plumbing_computes_nothing() -> None:
    assert flops(node("Transpose", [IMAGE], [("float", [1, 56, 56, 64])])) == 0


@pytest.mark.parametrize("soc", ["rk3588", "rk3576", "rk3566", "rv1106"])
def test_a_large_convolution_pays_and_a_crumb_does_not(soc: str) -> None:
    target = find_target(soc)
    wide = ("float", [1, 256, 56, 56])
    conv = node("Conv", [wide, floats(256, 256, 3, 3)], [("float", [1, 256, 54, 54])])
    cost = estimate([conv], [conv.inputs[0]], [conv.outputs[0]], target)  # type: ignore[list-item]
    assert cost.gain > 1
    small = node("Add", [("float", [1, 8]), floats(1, 8)], [("float", [1, 8])])
    assert estimate([small], [small.inputs[0]], [small.outputs[0]], target).gain < 0.01  # type: ignore[list-item]


def test_an_image_sent_over_for_one_activation_does_not_pay() -> None:
    relu = node("Relu", [IMAGE], [IMAGE])
    assert estimate([relu], [relu.inputs[0]], [relu.outputs[0]], find_target("rk3588")).gain < 1  # type: ignore[list-item]


def test_the_npu_computes_whole_groups_of_channels() -> None:
    narrow = node("Conv", [("float", [1, 8, 56, 56]), floats(8, 8, 3, 3)], [("float", [1, 8, 54, 54])])
    (work,) = node_works([narrow])
    assert work.kind == "conv"
    assert work.flop == 2 * 8 * 54 * 54 * 8 * 9
    assert work.npu_flop == work.flop * 4 * 4
    first = node("Conv", [("float", [1, 3, 56, 56]), floats(32, 3, 3, 3)], [("float", [1, 32, 54, 54])])
    (work,) = node_works([first])
    assert work.npu_flop == pytest.approx(work.flop * 4 / 3)


def test_int8_halves_the_time_of_a_convolution_and_of_its_data() -> None:
    conv = node("Conv", [IMAGE, floats(128, 64, 3, 3)], [("float", [1, 128, 54, 54])])
    costs = recorded_costs("rk3588")
    fp16, int8 = (run_seconds(node_works([conv]), costs, dtype) for dtype in ("fp16", "int8"))
    fixed = costs("run_us") + costs("layer_us")
    assert fp16 - fixed == pytest.approx(flops(conv) / 950e9)
    assert int8 - fixed == pytest.approx(flops(conv) / 1600e9)


def test_what_the_compiler_fuses_costs_nothing() -> None:
    graph = onnx_graph.load(
        onnx.shape_inference.infer_shapes(
            onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
            g (float[1,8,9,9] x, float[8,8,1,1] w) => (float[1,8,9,9] y) <float two = {2.0}> {
                a = Conv(x, w)  b = Relu(a)  c = Mul(b, two)  s = Sigmoid(c)  d = Mul(c, s)  y = Relu(x) }""")
        )
    ).graph
    kinds = [work.kind for work in node_works(graph)]
    # Sigmoid and Mul are one Swish; the last Relu reads an input of the graph.
    assert kinds == ["conv", "fused", "fused", "fused", "activation", "elementwise"]


def test_what_the_runtime_runs_on_the_boards_cpu_is_slow() -> None:
    tensor = ("float", [1, 256, 64, 64])
    pad = node("Pad", [tensor], [("float", [1, 256, 66, 66])])
    add = node("Add", [tensor, tensor], [tensor])
    costs = recorded_costs("rk3588")
    on_cpu, on_npu = (run_seconds(node_works([one]), costs, "fp16") for one in (pad, add))
    assert 2.83e-3 / 3 < on_cpu < 2.83e-3 * 3.2  # record 23
    assert on_npu < on_cpu / 5


@pytest.mark.parametrize(("width", "again"), [(300, False), (400, True)])
def test_a_small_weight_that_nodes_share_comes_from_memory_once(width: int, again: bool) -> None:
    row = ("float", [1, width])
    first = node("MatMul", [row, floats(width, width)], [row])
    second = ir.node("MatMul", [first.outputs[0], first.inputs[1]])
    second.outputs[0].type, second.outputs[0].shape = first.outputs[0].type, first.outputs[0].shape
    works = list(node_works([first, second]))
    weight, rows = width * width * 4, 2 * width * 4
    assert [work.cpu_bytes for work in works] == [weight + rows, weight * again + rows]
    assert {work.weights for work in works} == {width * width}  # each layer of the NPU reads it


def test_strings_have_no_size_and_are_no_fault() -> None:
    value = ir.Value(name="s", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.STRING))
    assert value_bytes(value) == 8
