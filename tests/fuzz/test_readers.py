"""A short part of `make fuzz` with a fixed seed, and everything that was found once."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from ort_rknn_converters.errors import ToolkitFailed
from tests.fuzz.mutate import mutated
from tests.fuzz.readers import Reader, readers
from tests.fuzz.run import known, trial
from tests.fuzz.structured import restructured

TRIALS = 25  # for each reader: seconds for all


@pytest.fixture(scope="module")
def every() -> tuple[Reader, ...]:
    with readers() as found:
        return found


def test_sound_inputs_are_read(every: tuple[Reader, ...], tmp_path: Path) -> None:
    for reader in every:
        for number, seed in enumerate(reader.seeds):
            folder = tmp_path / f"{reader.name.replace(':', '')} {number}"
            folder.mkdir()
            with pytest.raises(ToolkitFailed) if reader.name == "cache: failure" else nullcontext():
                reader.read(seed, folder)


def test_mutated_inputs_raise_our_own_errors(every: tuple[Reader, ...], tmp_path: Path) -> None:
    chance = random.Random(0)
    for reader in every:
        folder = tmp_path / reader.name.replace(":", "")
        folder.mkdir()
        made = [
            change(chance.choice(reader.seeds), chance) for change in (mutated, restructured) for _ in range(TRIALS)
        ]
        for data in (*known(reader), *made):
            assert trial(reader, data, folder) == "", reader.name
