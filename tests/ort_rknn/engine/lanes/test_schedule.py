"""Schedules and core masks: options in, lanes out."""

from __future__ import annotations

from typing import Any

import pytest

from ort_rknn.engine.lanes.schedule import (
    ANY_CORE,
    TP_MODES,
    core_of,
    parse_schedule,
    parse_tp_mode,
    plan_lanes,
    what_is_left,
)
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import InvalidOption


@pytest.mark.parametrize(
    ("pins", "cores"), [((0, 1, 2), [0, 1, 2, 0, 1, 2]), ((0, 0, 1), [0, 0, 1, 0, 0, 1]), ((2,), [2] * 6)]
)
def test_ez30_core_of_a_job(pins: tuple[int, ...], cores: list[int]) -> None:
    assert [core_of(job, pins) for job in range(6)] == cores


@pytest.mark.parametrize("value", ["0,1,2", "[0, 1, 2]", "(0,1,2)", " 0 , 1,2 ", [0, 1, 2], (0, 1, 2), range(3), "012"])
def test_ez31_three_forms(value: Any) -> None:
    assert parse_schedule(value) == ((12,) if value == "012" else (0, 1, 2))


@pytest.mark.parametrize("value", [0, "0", [0], "[0]"])
def test_ez31_one_core(value: Any) -> None:
    assert parse_schedule(value) == (0,)


def test_ez32_doubles_are_weights() -> None:
    assert parse_schedule([0, 0, 1]) == (0, 0, 1)
    cores = [core_of(job, (0, 0, 1)) for job in range(300)]
    assert (cores.count(0), cores.count(1)) == (200, 100)


@pytest.mark.parametrize("value", ["", "[]", [], (), -1, "-1", [0, -1], "0,x", "x", "0,,1", 1.5, [0.5], [None], True])
def test_ez33_errors(value: Any) -> None:
    with pytest.raises(InvalidOption, match="schedule must be"):
        parse_schedule(value)


def test_ez33_errors_are_both_runtime_and_value_errors() -> None:
    assert issubclass(InvalidOption, RuntimeError)
    assert issubclass(InvalidOption, ValueError)


def test_ez36_tp_mode_masks_are_the_vendors() -> None:
    assert TP_MODES == {"auto": 0, "all": 0xFFFF, "0": 1, "1": 2, "2": 4, "0,1": 3, "0,1,2": 7}


@pytest.mark.parametrize(("value", "word"), [("AUTO", "auto"), ("0, 1", "0,1"), (0, "0"), ("all ", "all")])
def test_ez36_tp_mode_is_read_kindly(value: Any, word: str) -> None:
    assert parse_tp_mode(value) == word


@pytest.mark.parametrize("value", ["3", "1,2", "", "fast", [0, 1]])
def test_ez36_unknown_tp_mode(value: Any) -> None:
    with pytest.raises(InvalidOption, match="'auto', 'all'"):
        parse_tp_mode(value)


def test_ez34_lanes_of_a_schedule() -> None:
    plan = plan_lanes(EngineOptions(schedule=(0, 1, 2), threads_per_core=2), 3)
    assert [(lane.core, lane.mask) for lane in plan.lanes] == [(0, 1), (1, 2), (2, 4), (0, 1), (1, 2), (2, 4)]
    assert plan.cores == 3


@pytest.mark.parametrize(
    ("options", "lanes"),
    [
        ({}, [0, 1, 2, 0, 1, 2]),
        ({"schedule": [0, 1, 0]}, [0, 1, 0, 1]),
        ({"schedule": [0, 1], "threads_per_core": 1}, [0, 1]),
        ({"threads_per_core": 1}, [0, 1, 2]),
        ({"threads_per_core": 3, "cores": 1}, [0, 0, 0]),
        ({"tp_mode": "0"}, [0]),
    ],
    ids=str,
)
def test_native_lanes_have_two_contexts_per_core_unless_a_number_is_given(
    options: dict[str, Any], lanes: list[int]
) -> None:
    assert [lane.core for lane in plan_lanes(EngineOptions(**options), 3, native=True).lanes] == lanes


def test_ez37_lanes_of_a_tp_mode() -> None:
    plan = plan_lanes(EngineOptions(tp_mode="0,1", threads_per_core=2), 3)
    assert [(lane.core, lane.mask) for lane in plan.lanes] == [(ANY_CORE, 3), (ANY_CORE, 3)]
    assert (plan.pins, plan.cores) == (None, 1)


def test_ez38_our_default_is_all_cores_where_the_seed_has_one_worker() -> None:
    plan = plan_lanes(EngineOptions(), 3)
    assert [(lane.core, lane.mask) for lane in plan.lanes] == [(0, 1), (1, 2), (2, 4)]
    assert plan.pins is None


@pytest.mark.parametrize("options", [{"tp_mode": "auto"}, {}, {"schedule": 0}, {"performance_hint": "throughput"}])
def test_ez40_single_core_chips_get_auto(options: dict[str, Any]) -> None:
    assert {lane.mask for lane in plan_lanes(EngineOptions(**options), 1).lanes} == {0}


@pytest.mark.parametrize("options", [{"schedule": (0, 1)}, {"tp_mode": "1"}, {"tp_mode": "0,1"}, {"schedule": 7}])
def test_ez40_a_core_that_does_not_exist_is_an_error_before_anything_is_opened(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=r"the device has 1 core\(s\): 0"):
        plan_lanes(EngineOptions(**options), 1)


def test_cores_limits_the_default() -> None:
    assert [lane.core for lane in plan_lanes(EngineOptions(cores=2), 3).lanes] == [0, 1]
    assert [lane.core for lane in plan_lanes(EngineOptions(cores=8), 3).lanes] == [0, 1, 2]


def test_hints() -> None:
    latency = plan_lanes(EngineOptions(performance_hint="latency"), 3)
    assert [(lane.core, lane.mask) for lane in latency.lanes] == [(ANY_CORE, 0)]
    throughput = plan_lanes(EngineOptions(performance_hint="throughput"), 3)
    assert [lane.core for lane in throughput.lanes] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("options", "lanes", "pins"),
    [
        ({"schedule": [0]}, [(0, 1)], (0,)),
        ({"schedule": [0, 1, 2]}, [(0, 1), (1, 2), (2, 4)], (0, 1, 2)),
        ({"schedule": "0,1"}, [(0, 1), (1, 2)], (0, 1)),
        ({"tp_mode": "all"}, [(ANY_CORE, 0xFFFF)], None),
        ({"schedule": [0, 1, 2], "enable_pacing": True}, [(0, 1), (1, 2), (2, 4)], (0, 1, 2)),
    ],
    ids=["single core", "three cores", "two cores", "tensor parallel", "with pacing"],
)
def test_ez46_the_seeds_examples(options: dict[str, Any], lanes: list[tuple[int, int]], pins: Any) -> None:
    plan = plan_lanes(EngineOptions(**options), 3)
    assert [(lane.core, lane.mask) for lane in plan.lanes] == lanes
    assert plan.pins == pins


def test_a_plan_can_be_printed() -> None:
    text = str(plan_lanes(EngineOptions(schedule=(0, 1)), 3))
    assert "2 lane(s), job i on core [0, 1][i % 2]" in text
    assert "cores chosen by the driver (mask 0xffff)" in str(plan_lanes(EngineOptions(tp_mode="all"), 3))


@pytest.mark.parametrize(
    ("options", "cores", "place", "left"),
    [
        ({"threads_per_core": 2}, 3, "core 0", "3 core(s) left"),
        ({"schedule": [1, 1, 2], "threads_per_core": 3}, 3, "core 1", "2 core(s) left"),
        ({"threads_per_core": 4}, 1, "core 0", "1 core(s) left"),
        ({"tp_mode": "0,1", "threads_per_core": 3}, 3, "cores 0, 1", "2 core(s) left"),
        ({"tp_mode": "2"}, 3, "core 2", "1 core(s) left"),
        ({"tp_mode": "auto", "threads_per_core": 3}, 3, "the cores the driver chooses", "3 lane(s) left, on the cores"),
        ({"tp_mode": "all"}, 3, "the cores the driver chooses", "1 lane(s) left, on the cores the driver chooses"),
    ],
)
def test_what_is_left_are_cores_and_not_lanes(options: dict[str, Any], cores: int, place: str, left: str) -> None:
    plan = plan_lanes(EngineOptions(**options), cores)
    assert plan.lanes[0].place == place
    assert what_is_left(plan.lanes).startswith(left)
    assert what_is_left([]) == "no core is left"
