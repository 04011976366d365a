from __future__ import annotations

import pytest

from ort_rknn_converters.partition.cost_model import estimate, flops
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
