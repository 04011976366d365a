"""Calls of the runtime that have no time limit of their own get one."""

from __future__ import annotations

import threading

import pytest

from ort_rknn.devices.time_limit import open_seconds, within
from ort_rknn.errors import DeviceError


def _call_of(thread: int | None) -> str | None:
    return "rknn_query" if thread else None


def test_a_result_and_an_error_come_as_they_are() -> None:
    assert within(5, _call_of, lambda: 7, str, "it") == 7
    with pytest.raises(KeyError, match="gone"):
        within(5, _call_of, lambda: {}["gone"], str, "it")


def test_what_takes_too_long_is_an_error_that_names_the_call_and_is_given_back() -> None:
    gate, back, given = threading.Event(), threading.Event(), []

    def late() -> int:
        gate.wait(30)
        return 7

    def give_back(result: int) -> None:
        given.append(result)
        back.set()

    with pytest.raises(
        DeviceError, match=r"rknn_query failed: RKNN_ERR_TIMEOUT \(-2\): .* within 0.05 s: it"
    ) as caught:
        within(0.05, _call_of, late, give_back, "it")
    assert (caught.value.call, caught.value.code) == ("rknn_query", -2)
    gate.set()
    assert back.wait(10)
    assert given == [7]


def test_large_models_may_take_longer() -> None:
    assert open_seconds(0) == 30
    assert open_seconds(2_000_000_000) == 230
