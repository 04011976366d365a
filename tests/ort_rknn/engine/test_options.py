"""Engine options: defaults, coercion and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import InvalidOption


def test_defaults_are_the_seeds() -> None:
    """EZ-07, EZ-08, EZ-10, EZ-12, EZ-35, EZ-41, EZ-42."""
    options = EngineOptions()
    assert options.max_queue_size == 3
    assert options.max_callback_queue_size == 8
    assert options.submit_timeout_ms == 10_000
    assert options.sequential_callbacks
    assert options.threads_per_core is None
    assert not options.enable_pacing
    assert not options.disable_dup_context
    assert options.overflow == "block"


def test_schedule_and_tp_mode_are_normalised() -> None:
    assert EngineOptions(schedule="[0, 1]").schedule == (0, 1)  # type: ignore[arg-type]
    assert EngineOptions(tp_mode="0, 1").tp_mode == "0,1"


def test_ez39_schedule_and_tp_mode_exclude_each_other() -> None:
    with pytest.raises(InvalidOption, match="exclude each other"):
        EngineOptions(schedule=(0,), tp_mode="auto")


@pytest.mark.parametrize("other", [{"schedule": (0,)}, {"tp_mode": "all"}])
def test_a_hint_excludes_both(other: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="performance_hint"):
        EngineOptions(performance_hint="latency", **other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads_per_core": 0},
        {"max_queue_size": 0},
        {"max_queue_size": -1},
        {"max_callback_queue_size": 0},
        {"submit_timeout_ms": -1},
        {"run_timeout_ms": -5},
        {"cores": 0},
        {"overflow": "forget"},
        {"performance_hint": "fast"},
    ],
    ids=str,
)
def test_values_that_make_no_sense(wrong: dict[str, Any]) -> None:
    """EZ-35 among others; a negative queue limit means no limit in EZ RKNN Async's implementation."""
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        EngineOptions(**wrong)
