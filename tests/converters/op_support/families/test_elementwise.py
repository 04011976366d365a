from __future__ import annotations

import pytest

from tests.helpers.op_rule import reason

FLOAT = ("float", [2, 3])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_is_for_floats(op: str) -> None:
    assert reason(op, [FLOAT, FLOAT], [FLOAT]) is None
    assert reason(op, [("float16", [2, 3])] * 2, [("float16", [2, 3])]) is None
    assert reason(op, [("int64", [2, 3])] * 2, [("int64", [2, 3])]) == f"{op} of integers: exact only to 2048 in fp16"
    assert reason(op, [("uint8", [2, 3])] * 2, [("uint8", [2, 3])]) == "uint8 aborts the compiler"


def test_float64_stays_on_the_cpu() -> None:
    said = reason("Add", [("double", [2]), ("double", [2])], [("double", [2])])
    assert said is not None
    assert said.startswith("float64")


def test_max_and_sum_of_one_input_stay_on_the_cpu() -> None:
    assert reason("Max", [FLOAT], [FLOAT]) == "Max of one input crashes the compiler"
    assert reason("Sum", [FLOAT], [FLOAT]) is not None
    assert reason("Max", [FLOAT, FLOAT], [FLOAT]) is None


def test_min_has_no_lowering() -> None:
    assert reason("Min", [FLOAT, FLOAT], [FLOAT]) == "Min: the compiler has no lowering"


def test_limits_of_clip_must_be_constants() -> None:
    scalar = ("float", [])
    assert reason("Clip", [FLOAT, scalar], [FLOAT]) == "Clip: input 1 must be a constant"
    assert reason("Clip", [FLOAT, None], [FLOAT]) is None
