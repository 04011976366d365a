from __future__ import annotations

import pytest

from ort_rknn_converters.op_support.decide import REFUSED, RULES, boundary_reason
from tests.helpers.op_rule import floats, reason, value

FLOAT = ("float", [2, 3])


@pytest.mark.parametrize(
    ("op", "said"),
    [
        ("If", "control flow"),
        ("Loop", "control flow"),
        ("LSTM", "recurrent"),
        ("RandomNormalLike", "random"),
        ("Sign", "Sign: the compiler has no lowering"),
        ("NonZero", "NonZero: the result's shape depends on values"),
        ("GridSample", "GridSample: no code for it in the compiler or the board's runtime"),
        ("OpOfTheFuture", "OpOfTheFuture: the compiler has no lowering"),
    ],
)
def test_the_reason_is_in_words(op: str, said: str) -> None:
    assert reason(op, [FLOAT], [FLOAT]) == said


def test_other_domains_stay_on_the_cpu() -> None:
    said = reason("FusedMatMul", [FLOAT, FLOAT], [FLOAT], domain="com.microsoft")
    assert said == "com.microsoft.FusedMatMul: not an op of the ONNX standard"


def test_shapes_must_be_known_and_hold_something() -> None:
    assert reason("Relu", [("float", ["batch", 3])], [("float", ["batch", 3])]) == "dynamic shape"
    assert reason("Relu", [("float", [0, 3])], [("float", [0, 3])]) == "a dimension of size zero"
    assert reason("Concat", [("float", [2]), ("float", [0])], [("float", [2])], axis=0) == "a dimension of size zero"
    image, large = ("float", [1, 4, 8, 8]), ("float", [1, 4, 16, 16])
    assert reason("Resize", [image, floats(0), floats(4)], [large], mode="linear") is None


def test_no_op_is_both_taken_and_refused() -> None:
    assert not set(RULES) & set(REFUSED)


def test_small_socs_take_the_heart_of_a_cnn_only() -> None:
    assert reason("Conv", [("float", [1, 3, 8, 8]), floats(4, 3, 3, 3)], [("float", [1, 4, 6, 6])], "rv1106") is None
    assert reason("Erf", [FLOAT], [FLOAT], "rv1106") == "Erf: not known to run on rv1106"


def test_six_dimensions_depend_on_the_soc() -> None:
    deep = ("float", [1, 2, 4, 2, 4, 8])
    assert reason("Mul", [deep, deep], [deep], "rk3588") is None
    assert reason("Mul", [deep, deep], [deep], "rk3566") == "Mul of rank 6 crashes the compiler for rk3566"
    assert reason("Transpose", [deep], [deep], "rk3566", perm=[0, 1, 2, 3, 4, 5]) is None


def test_what_may_cross_an_edge() -> None:
    assert boundary_reason(value("x", ("float16", [2]))) is None  # type: ignore[arg-type]
    assert boundary_reason(value("x", ("uint8", [2]))) == "uint8 cannot go in or out of NPU code"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ([20, 1, 4096], False),
        ([1, 20, 4096], False),
        ([35, 2048], False),
        ([71, 1024], False),
        ([16, 4096], True),
        ([24, 4096], True),
        ([20, 4095], True),
        ([2, 10, 4096], True),
        ([80, 1024], True),
    ],
)
def test_rows_that_overflow_a_register(shape: list[int], fits: bool) -> None:
    said = reason("Relu", [("float", shape)], [("float", shape)])
    assert (said is None) == fits
    assert fits or "rows of" in str(said)
