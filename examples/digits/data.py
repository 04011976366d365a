"""The handwritten digits and the one split that training and demo share.

scikit-learn bundles 1,797 images of 8 x 8 pixels (UCI "Optical Recognition of Handwritten Digits", test part); nothing
is downloaded. One fifth of them is never seen in training.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SPLIT_SEED = 7  # any number will do, but it must stay: the network in the repository was trained with it
TEST_IMAGES = 360


class Digits(NamedTuple):
    """Images as the scanner gave them (0 to 16, uint8 [n, 8, 8]) and their labels (int64 [n])."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def train_and_test() -> tuple[Digits, Digits]:
    """The training and the test part, always the same."""
    bunch: Any = load_digits()
    images = bunch.images.astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def to_network(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels as the network wants them: float32 [n, 1, 8, 8], 0 to 1."""
    return (images.astype(np.float32) / 16.0)[:, np.newaxis]
