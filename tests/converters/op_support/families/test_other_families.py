"""Reductions, positions, comparisons, normalizations, products and resizing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.op_rule import floats, ints, reason

IMAGE = ("float", [1, 4, 8, 8])


def test_reductions_need_constant_axes_and_floats() -> None:
    result = [("float", [1, 4, 1, 8])]
    assert reason("ReduceMean", [IMAGE, ints(2)], result) is None
    assert reason("ReduceMean", [IMAGE], [("float", [1, 1, 1, 1])]) is None
    assert reason("ReduceSum", [IMAGE, ("int64", [1])], result) == "ReduceSum: input 1 must be a constant"
    assert reason("ReduceMax", [("int32", [2, 3]), ints(1)], [("int32", [2, 1])]) is not None


def test_positions_of_extremes_are_whole_numbers_from_the_start() -> None:
    assert reason("ArgMax", [IMAGE], [("int64", [1, 1, 8, 8])], axis=1) is None
    assert reason("TopK", [("float", [1, 9]), ints(3)], [("float", [1, 3]), ("int64", [1, 3])]) is None
    assert reason("ArgMax", [("int64", [1, 9])], [("int64", [1, 1])], axis=1) is not None


def test_gather_takes_given_positions() -> None:
    assert reason("Gather", [floats(100, 8), ("int64", [1, 5])], [("float", [1, 5, 8])]) is None
    assert reason("Gather", [("float", [9, 8]), ints(1, 2)], [("float", [2, 8])]) is None
    assert reason("Gather", [("int64", [9]), ("int64", [2])], [("int64", [2])]) is not None


def test_many_fixed_positions_would_become_a_large_table() -> None:
    data, result = ("float", [4, 64, 128]), [("float", [4, 64, 256])]
    assert reason("GatherElements", [data, ("int64", [4, 64, 256])], result, axis=-1) is None
    positions = np.zeros((4, 64, 64), np.int64)
    assert reason("GatherElements", [data, positions], [("float", [4, 64, 64])], axis=-1) is None
    positions = np.zeros((4, 64, 256), np.int64)
    assert reason("GatherElements", [data, positions], result, axis=-1) is not None


def test_scatter_with_a_reduction_is_not_known_to_the_board() -> None:
    inputs = [("float", [4, 4]), ints(1, 2).reshape(2, 1), ("float", [2, 4])]
    assert reason("ScatterND", inputs, [("float", [4, 4])]) is None
    assert reason("ScatterND", inputs, [("float", [4, 4])], reduction="add") is not None


@pytest.mark.parametrize(
    ("op", "kind", "taken"),
    [("Equal", "int64", True), ("Equal", "float", False), ("Less", "float", True), ("Greater", "int32", True)],
)
def test_comparisons(op: str, kind: str, taken: bool) -> None:
    said = reason(op, [(kind, [4]), (kind, [4])], [("bool", [4])])
    assert (said is None) is taken
    assert said is None or "fp16 step" in said


def test_selection_is_of_floats() -> None:
    assert reason("Where", [("bool", [4]), ("float", [4]), ("float", [4])], [("float", [4])]) is None
    assert reason("Where", [("bool", [4]), ("int64", [4]), ("int64", [4])], [("int64", [4])]) is not None


def test_normalizations_in_inference() -> None:
    statistics = [floats(4) for _ in range(4)]
    assert reason("BatchNormalization", [IMAGE, *statistics], [IMAGE]) is None
    assert reason("BatchNormalization", [IMAGE, *statistics], [IMAGE], training_mode=1) is not None
    assert reason("LayerNormalization", [IMAGE, floats(8), floats(8)], [IMAGE]) is None
    mean = ("float", [1, 4, 8, 1])
    assert reason("LayerNormalization", [IMAGE, floats(8), floats(8)], [IMAGE, mean]) is not None


def test_products_up_to_rank_four() -> None:
    assert reason("MatMul", [("float", [1, 2, 3, 4]), ("float", [1, 2, 4, 5])], [("float", [1, 2, 3, 5])]) is None
    said = reason("MatMul", [("float", [3, 1, 3, 4]), ("float", [1, 2, 4, 5])], [("float", [3, 2, 3, 5])])
    assert said == "MatMul that broadcasts both sides: the compiler has no lowering"
    for first, second in (([3, 1, 3, 4], [3, 2, 4, 5]), ([3, 2, 3, 4], [4, 5]), ([3, 4], [3, 2, 4, 5]), ([4], [4, 5])):
        result = [*(first[:-2] if len(first) > len(second) else second[:-2]), 3, 5]
        assert reason("MatMul", [("float", first), ("float", second)], [("float", result[-4:])]) is None
    deep = ("float", [1, 1, 2, 4, 4])
    assert reason("MatMul", [deep, deep], [deep]) == "MatMul of rank 5"
    assert reason("Gemm", [("float", [2, 3]), floats(3, 4), floats(4)], [("float", [2, 4])]) is None
    moving = reason("Gemm", [("float", [2, 3]), floats(3, 4), ("float", [1])], [("float", [2, 4])])
    assert moving is not None


def test_resizing() -> None:
    scales, large = np.array([1, 1, 2, 2], np.float32), [("float", [1, 4, 16, 16])]
    assert reason("Resize", [IMAGE, None, scales], large, mode="linear") is None
    assert reason("Resize", [IMAGE, None, scales], large, mode="cubic") == "cubic Resize crashes the compiler"
    assert reason("Resize", [IMAGE, None, scales], large, mode="linear", antialias=1) is not None
    coordinates = {"coordinate_transformation_mode": "tf_crop_and_resize"}
    assert reason("Resize", [IMAGE, None, scales], large, mode="linear", **coordinates) is not None
    assert reason("Resize", [IMAGE, None, scales], [("float", [2, 4, 16, 16])]) is not None
