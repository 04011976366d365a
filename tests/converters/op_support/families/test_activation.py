from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.op_rule import floats, reason

BATCH_1 = ("float", [1, 4, 8, 8])
BATCH_2 = ("float", [2, 4, 8, 8])


@pytest.mark.parametrize("op", ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Softplus"])
def test_common_activations_are_taken(op: str) -> None:
    assert reason(op, [BATCH_2], [BATCH_2]) is None


def test_softmax_of_a_batch_depends_on_the_soc() -> None:
    assert reason("Softmax", [BATCH_2], [BATCH_2], "rk3588") is None
    assert reason("Softmax", [BATCH_1], [BATCH_1], "rk3566") is None
    assert reason("Softmax", [BATCH_2], [BATCH_2], "rk3566") is not None


def test_log_softmax_is_for_batch_one() -> None:
    assert reason("LogSoftmax", [BATCH_1], [BATCH_1]) is None
    assert reason("LogSoftmax", [BATCH_2], [BATCH_2]) is not None


def test_slopes_of_prelu_must_fit() -> None:
    assert reason("PRelu", [BATCH_1, floats(4, 1, 1)], [BATCH_1]) is None
    assert reason("PRelu", [BATCH_1, floats(4)], [BATCH_1]) == "PRelu: the slopes do not broadcast to the input"


def test_dropout_is_taken_in_inference() -> None:
    assert reason("Dropout", [BATCH_1], [BATCH_1]) is None
    assert reason("Dropout", [BATCH_1, None, ("bool", [])], [BATCH_1]) is not None
    assert reason("Dropout", [BATCH_1], [BATCH_1, ("bool", [1, 4, 8, 8])]) is not None
    training = np.array(True)
    assert reason("Dropout", [BATCH_1, None, training], [BATCH_1]) == "Dropout in training mode aborts the compiler"
