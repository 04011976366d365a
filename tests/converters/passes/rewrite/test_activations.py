from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.helpers.onnx_models import EDGES, check_prepared, one_op, random


@pytest.mark.parametrize(
    ("op", "opset", "attributes"),
    [
        ("Softsign", 18, {}),
        ("Selu", 18, {}),
        ("Selu", 18, {"alpha": 2.0, "gamma": 3.0}),
        ("Celu", 18, {}),
        ("Celu", 18, {"alpha": 2.5}),
        ("Mish", 18, {}),
        ("Swish", 24, {}),
        ("Swish", 24, {"alpha": 1.7}),
        ("Gelu", 20, {}),
        ("Gelu", 20, {"approximate": "tanh"}),
        ("Shrink", 18, {}),
        ("Shrink", 18, {"lambd": 1.0, "bias": 0.3}),
    ],
)
@pytest.mark.parametrize("values", [EDGES, random(2, 3, 4), np.array(-0.7, np.float32)], ids=["edges", "3-d", "scalar"])
def test_same_answer_without_the_op(op: str, opset: int, attributes: dict[str, Any], values: np.ndarray) -> None:
    check_prepared(one_op(op, {"x": values}, opset=opset, **attributes), {"x": values}, gone=[op], rtol=2e-5)


@pytest.mark.parametrize(("op", "opset", "ops"), [("Mish", 18, "Softplus Tanh Mul"), ("Swish", 24, "Sigmoid Mul")])
def test_what_the_compiler_fuses(op: str, opset: int, ops: str) -> None:
    x = random(2, 3)
    check_prepared(one_op(op, {"x": x}, opset=opset), {"x": x}, ops=ops.split())


def test_celu_of_a_negative_alpha_stays() -> None:
    x = random(4)
    check_prepared(one_op("Celu", {"x": x}, alpha=-1.0), {"x": x}, ops=["Celu"])


def test_integer_shrink_stays() -> None:
    x = np.arange(-4, 5, dtype=np.int32)
    check_prepared(one_op("Shrink", {"x": x}), {"x": x}, ops=["Shrink"])


def test_hardswish_and_thresholded_relu_stay() -> None:
    for op in ("HardSwish", "ThresholdedRelu"):
        check_prepared(one_op(op, {"x": EDGES}), {"x": EDGES}, ops=[op])


def test_an_op_the_user_wants_on_the_cpu_stays() -> None:
    x = random(4)
    check_prepared(one_op("Selu", {"x": x}), {"x": x}, ops=["Selu"], cpu_ops={"Selu"})
    check_prepared(one_op("Selu", {"x": x}), {"x": x}, ops=["Selu"], cpu_nodes={"node"})
