from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import check_prepared, one_op, random


@pytest.mark.parametrize("shape", [[4, 7], [6, 3]])
def test_center_crop_pad_to_a_known_size(shape: list[int]) -> None:
    feed = {"x": random(5, 5)}
    model = one_op("CenterCropPad", feed, {"shape": np.array(shape, np.int64)})
    check_prepared(model, feed, gone=["CenterCropPad"])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("opset", [13, 22])
def test_losses_with_weights_and_an_ignored_class(reduction: str, opset: int) -> None:
    feed = {
        "scores": random(4, 3),
        "labels": np.array([0, 2, 1, 2], np.int64),
        "weights": np.array([0.5, 1, 2], np.float32),
    }
    for op in ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"):
        check_prepared(one_op(op, feed, opset=opset, reduction=reduction, ignore_index=1), feed, gone=[op])


def test_a_body_of_other_versions_stays() -> None:
    feed = {"scores": random(4, 3), "labels": np.array([0, 2, 1, 2], np.int64)}
    check_prepared(one_op("NegativeLogLikelihoodLoss", feed, opset=18), feed, ops=["NegativeLogLikelihoodLoss"])


def test_affine_grid_of_a_known_size() -> None:
    feed = {"theta": random(2, 2, 3)}
    model = one_op("AffineGrid", feed, {"size": np.array([2, 3, 4, 5], np.int64)}, opset=20)
    check_prepared(model, feed, gone=["AffineGrid", "If"])


def test_an_unknown_size_stays() -> None:
    feed = {"x": random(5, 5), "shape": np.array([4, 7], np.int64)}
    check_prepared(one_op("CenterCropPad", feed), feed, ops=["CenterCropPad"])
