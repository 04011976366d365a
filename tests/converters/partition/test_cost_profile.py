"""A measured cost profile survives its file, and one that means nothing is not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ort_rknn_converters.partition.cost_profile import CostProfile, OperatorCost, TransferCost
from ort_rknn_converters.partition.installed_profile import installed, profile_path

CONV = OperatorCost("conv", "int8", "64 to 64, 3x3 by 1, 40x40", 58_982_400, 241_664, 1, 0.25, 30)
TRANSFER = TransferCost("inputs_set", "float32", 409_600, 0.5, 30)


def profile(**changes: Any) -> CostProfile:
    facts: dict[str, Any] = {
        "target": "rk3588",
        "where": "hardware",
        "board": "Board 5",
        "runtime": "2.3.2",
        "driver": "0.9.8",
        "written": "2026-11-30T15:00:00+00:00",
        "operators": (CONV,),
        "transfers": (TRANSFER,),
    }
    return CostProfile(**facts | changes)


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    path = profile_path("rk3588", tmp_path)
    profile().save(path)
    assert path == tmp_path / "cost" / "rk3588.json"
    assert CostProfile.load(path) == profile()
    assert installed("rk3588", tmp_path) == profile()
    assert installed("rk3566", tmp_path) is None


def test_it_is_found_inside_a_report_of_the_board_test(tmp_path: Path) -> None:
    path = tmp_path / "board-test.json"
    path.write_text(json.dumps({"format": 2, "trials": [], "cost": profile().to_dict()}))
    assert CostProfile.load(path) == profile()


def test_emulated_times_are_not_used(tmp_path: Path) -> None:
    profile(where="emulated").save(profile_path("rk3588", tmp_path))
    assert installed("rk3588", tmp_path) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "holds no object"),
        ("{}", "no cost profile"),
        ('{"format": 99}', "its layout is 99"),
        ('{"format": 1, "target": "rk3588"}', "no cost profile"),
        ("no json", "Expecting value"),
    ],
)
def test_a_file_that_is_none_is_warned_of(
    text: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = profile_path("rk3588", tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    assert installed("rk3588", tmp_path) is None
    assert reason in caplog.text
