"""The interpreter's switch interval is short only while it must be, and never against the program's will."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ort_rknn.engine.lanes.switch_interval import ENVIRONMENT, INTERVAL_S, URGENT_S, FastSwitching


@pytest.fixture(autouse=True)
def interval() -> Iterator[float]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield 0.005
    sys.setswitchinterval(before)


def test_begin_and_end() -> None:
    one, other = FastSwitching(), FastSwitching()
    one.begin()
    one.begin()
    other.begin()
    assert sys.getswitchinterval() == pytest.approx(INTERVAL_S)
    one.end()
    one.end()
    assert sys.getswitchinterval() == pytest.approx(INTERVAL_S)
    assert (one.held, other.held) == (False, True)
    other.end()
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_the_shortest_wish_counts() -> None:
    one, other = FastSwitching(), FastSwitching(URGENT_S)
    one.begin()
    other.begin()
    assert sys.getswitchinterval() == pytest.approx(URGENT_S)
    other.end()
    assert sys.getswitchinterval() == pytest.approx(INTERVAL_S)
    other.begin()
    one.end()
    assert sys.getswitchinterval() == pytest.approx(URGENT_S)
    other.end()
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_what_the_program_sets_meanwhile_stays() -> None:
    haste = FastSwitching()
    haste.begin()
    sys.setswitchinterval(0.002)
    haste.end()
    assert sys.getswitchinterval() == pytest.approx(0.002)


def test_a_shorter_interval_stays() -> None:
    sys.setswitchinterval(0.0001)
    haste = FastSwitching()
    haste.begin()
    assert sys.getswitchinterval() == pytest.approx(0.0001)
    haste.end()
    assert sys.getswitchinterval() == pytest.approx(0.0001)


@pytest.mark.parametrize(("value", "expected"), [("0", 0.005), ("2", 0.002), ("nonsense", INTERVAL_S)])
def test_environment(monkeypatch: pytest.MonkeyPatch, value: str, expected: float) -> None:
    monkeypatch.setenv(ENVIRONMENT, value)
    haste = FastSwitching()
    haste.begin()
    assert sys.getswitchinterval() == pytest.approx(expected)
    haste.end()
