"""The cache is cleared by somebody else: sessions that run go on, those that are opened convert again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ort_rknn
from ort_rknn_converters.cache.store import Cache
from ort_rknn_converters.toolkit.compile import CompileRequest
from tests.helpers.emulator import Emulator, real_path
from tests.helpers.ort_models import model
from tests.helpers.toolkits.emulated import emulated_toolkit

FEED = {"X": np.ones((1, 2, 4, 4), np.float32)}


def by_command(folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "ort_rknn.cli", "cache", "clear"],
        env={"ORT_RKNN_CACHE_DIR": str(folder), "PATH": "/usr/bin"},
        check=True,
        capture_output=True,
    )


def by_hand(folder: Path) -> None:
    shutil.rmtree(folder)


def by_a_limit(folder: Path) -> None:
    Cache(folder).prune(0)


@pytest.fixture
def compiled() -> list[CompileRequest]:
    return []


@pytest.fixture
def open_session(
    tmp_path: Path, emulator: Emulator, compiled: list[CompileRequest]
) -> Iterator[Callable[..., ort_rknn.InferenceSession]]:
    def opened(**options: Any) -> ort_rknn.InferenceSession:
        chosen = {"device": "npu", "runtime_library": emulator.path, "target": "rk3588", "min_gain": 0, **options}
        return ort_rknn.InferenceSession(model("mixed"), providers=[("RKNNExecutionProvider", chosen)])

    with emulated_toolkit(tmp_path / "cache", seen=compiled):
        yield opened


@pytest.mark.parametrize("clear", [by_command, by_hand, by_a_limit])
def test_a_running_session_goes_on(
    open_session: Callable[..., Any], emulator: Emulator, tmp_path: Path, clear: Callable[[Path], None]
) -> None:
    with open_session(schedule=[0, 1, 2], disable_dup_context=True) as session:
        [right, _] = session.run(None, FEED)
        clear(tmp_path / "cache")
        assert not list((tmp_path / "cache").rglob("*.rknn"))
        for job in [session.submit(None, FEED) for _ in range(6)]:  # cores that have no context yet
            np.testing.assert_array_equal(job.result(20)[0], right)
        emulator.errors_are_meant = True
        emulator.configure(fault="rknn_run@1=-1")  # its context is not used again
        with pytest.raises(ort_rknn.DeviceError):
            session.run(None, FEED)
        for _ in range(4):
            np.testing.assert_array_equal(session.run(None, FEED)[0], right)
        assert not session.stats().notes


def test_an_opener_that_loses_its_entry_needs_it_no_more(
    open_session: Callable[..., Any],
    compiled: list[CompileRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_session().close()
    lookup = Cache.lookup

    def cleared_at_once(self: Cache, *args: Any) -> Any:
        found = lookup(self, *args)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        return found

    monkeypatch.setattr(Cache, "lookup", cleared_at_once)
    before = len(compiled)
    with open_session() as session:
        assert session.get_providers()[0] == "RKNNExecutionProvider"
        assert session.run(None, FEED)[0].shape == (1, 2, 4, 4)
    assert len(compiled) == before


def test_an_entry_that_goes_while_it_is_read_is_made_again(
    open_session: Callable[..., Any],
    compiled: list[CompileRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ort_rknn_converters.compiled import folder_format

    open_session().close()
    before, pinned, gone = len(compiled), folder_format.pinned, []

    def lost(blob: Any) -> Any:
        if not gone:
            gone.append(shutil.rmtree(tmp_path / "cache"))
        return pinned(blob)

    monkeypatch.setattr(folder_format, "pinned", lost)
    with open_session() as session:
        assert session.get_providers()[0] == "RKNNExecutionProvider"
        session.run(None, FEED)
    assert len(compiled) == 2 * before


def test_a_model_that_is_replaced_by_another_is_not_run_in_its_place(emulator: Emulator, tmp_path: Path) -> None:
    """A bare file, updated while a program runs: lanes that open later run what the session began with."""
    path = Path(shutil.copy(real_path("image_fp16_rk3588"), tmp_path / "model.rknn"))
    options = {"device": "npu", "runtime_library": emulator.path, "target": "rk3588", "disable_dup_context": True}
    feed = {"x": np.ones((1, 3, 6, 5), np.float32)}
    with ort_rknn.InferenceSession(path, providers=[("RKNNExecutionProvider", options)]) as session:
        right = session.run(None, feed)
        other = Path(shutil.copy(real_path("tokens_fp16_rk3588"), tmp_path / "new.rknn"))
        other.replace(path)
        for job in [session.submit(None, feed) for _ in range(6)]:
            for one, expected in zip(job.result(20), right, strict=True):
                np.testing.assert_array_equal(one, expected)
