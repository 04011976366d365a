from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ort_rknn_converters.op_support.passthrough import passes_through
from tests.helpers.op_rule import Tensor, floats, ints, node

SQUARE = ("float", [2, 2])


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "repeats"),
    [
        ("Identity", [SQUARE], {}, True),
        ("Dropout", [SQUARE], {}, True),
        ("Relu", [SQUARE], {}, False),
        ("Reshape", [SQUARE, ints(2, 2)], {}, True),
        ("Transpose", [SQUARE], {"perm": [0, 1]}, True),
        ("Transpose", [SQUARE], {}, False),
        ("Concat", [SQUARE], {"axis": 0}, True),
        ("Slice", [SQUARE, ints(0), ints(2)], {}, True),
        ("Slice", [SQUARE, ints(-1), ints(-9), ints(0), ints(-1)], {}, False),
        ("Add", [SQUARE, np.zeros((2, 2), np.float32)], {}, True),
        ("Mul", [np.ones((), np.float32), SQUARE], {}, True),
        ("Mul", [SQUARE, floats(2, 2)], {}, False),
        ("Sub", [np.zeros((2, 2), np.float32), SQUARE], {}, False),
        ("Add", [SQUARE, SQUARE], {}, False),
    ],
)
def test_what_only_repeats_its_input(op: str, inputs: list[Tensor], attributes: dict[str, Any], repeats: bool) -> None:
    assert (passes_through(node(op, inputs, [SQUARE], **attributes)) is not None) is repeats


def test_to_the_toolkit_every_float_is_a_float() -> None:
    assert passes_through(node("Cast", [SQUARE], [("float16", [2, 2])], to=10)) is not None
    assert passes_through(node("Cast", [("int64", [2, 2])], [SQUARE], to=1)) is None
