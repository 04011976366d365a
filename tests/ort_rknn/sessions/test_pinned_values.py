"""Which set of pinned values a feed has, and what is said of one that has none."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import pytest

from ort_rknn.sessions.pinned_values import PinnedValues

_FLOATS = {name: np.dtype(np.float32) for name in "abc"}


def _feed(**values: float) -> dict[str, np.ndarray]:
    return {name: np.array([value], np.float32) for name, value in values.items()}


def _sets(*sets: str) -> list[Mapping[str, str]]:
    return [dict(zip("abc", one, strict=False)) for one in sets]


def test_the_set_that_a_feed_has() -> None:
    pinned = PinnedValues(_sets("123", "456"), _FLOATS)
    assert pinned.choose(_feed(a=4, b=5, c=6)) == {"a": "4", "b": "5", "c": "6"}
    assert pinned.choose(_feed(a=1, b=2)) == {"a": "1", "b": "2", "c": "3"}
    assert pinned.choose({}) == {"a": "1", "b": "2", "c": "3"}


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        (_feed(a=1, b=2, c=9), "input c is [9.0], and the NPU code was made for 3 or 6"),
        (_feed(a=9, b=2, c=3), "input a is [9.0], and the NPU code was made for 1 or 4"),
        (_feed(a=1, b=5, c=9), "input c is [9.0], and the NPU code was made for 3 or 6"),
        (_feed(a=1, b=5, c=3), "inputs a is [1.0] and b is [5.0] and c is [3.0], and the NPU code was made for"),
        (_feed(a=1, b=5), "inputs a is [1.0] and b is [5.0], and the NPU code was made for a=1;b=2 or a=4;b=5"),
    ],
)
def test_what_is_said_once_of_other_values(
    feed: Mapping[str, np.ndarray], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    pinned = PinnedValues(_sets("123", "456"), _FLOATS)
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        assert pinned.choose(feed) is None
        assert pinned.choose(feed) is None
    assert [record.getMessage().startswith(said) for record in caplog.records] == [True], caplog.text
