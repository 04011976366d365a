"""Failures of the moment: tried again at the next start, then after a pause that grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from ort_rknn_converters.cache import pause
from ort_rknn_converters.cache.pause import FIRST_S, LONGEST_S, TIMES, Pauses
from ort_rknn_converters.cache.store import Cache, load_or_convert
from ort_rknn_converters.cli.cache import command
from ort_rknn_converters.errors import FailureKind, ToolkitBroken, ToolkitFailed
from ort_rknn_converters.options import ConvertOptions
from tests.helpers.conversions import model
from tests.helpers.toolkits.scripted import ScriptedToolkit

OPTIONS = ConvertOptions(min_gain=0)
TWO_PARTS = model("a = Conv <pads = [1, 1, 1, 1]> (x, w) b = Hardmax (a) y = Tanh (b)").SerializeToString()
HALF_OPTIONS = ConvertOptions(min_gain=0, cpu_ops=("Hardmax",))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock forward."""
    now = [time.time()]
    monkeypatch.setattr(pause.time, "time", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def failing(kind: FailureKind = "memory") -> ScriptedToolkit:
    return ScriptedToolkit(fails_with=ToolkitFailed("the toolkit was killed", kind=kind))


class HalfKilled(ScriptedToolkit):
    """Is killed whenever it meets a Tanh."""

    def __call__(self, request, **how):  # type: ignore[no-untyped-def]
        if b"Tanh" in request.model:
            self.requests.append(request)
            raise ToolkitFailed("the toolkit was killed", kind="memory")
        return super().__call__(request, **how)


def start(folder: Path, toolkit: ScriptedToolkit, data: bytes = b"", options: ConvertOptions = OPTIONS) -> int:
    """Open the model as a session does; returns the number of its segments."""
    data = data or model().SerializeToString()
    return len(load_or_convert(data, options, cache_dir=folder, compile=toolkit).npu_steps)


@pytest.mark.parametrize("kind", ["memory", "timeout", "killed"])
def test_one_unlucky_start_is_forgotten(tmp_path: Path, kind: FailureKind) -> None:
    assert start(tmp_path, failing(kind)) == 0
    assert not Cache(tmp_path).entries()
    lucky = ScriptedToolkit()
    assert start(tmp_path, lucky) == 1
    assert start(tmp_path, lucky) == 1
    assert len(lucky.requests) == 1
    assert not any((tmp_path / "paused").iterdir())


def test_pauses_grow(tmp_path: Path, clock: Callable[[float], None]) -> None:
    for wait in (0.0, FIRST_S, FIRST_S * TIMES, FIRST_S * TIMES**2):
        unlucky = failing()
        assert start(tmp_path, unlucky) == 0
        assert len(unlucky.requests) == 1
        if wait:
            clock(wait - 1)
            with pytest.raises(
                ToolkitFailed, match=r"was killed \(failed \d times; tried again from .*cache clear"
            ) as caught:
                start(tmp_path, ScriptedToolkit())
            assert caught.value.passing
            clock(1)
    assert start(tmp_path, ScriptedToolkit()) == 1


def test_no_pause_is_longer_than_a_day(tmp_path: Path, clock: Callable[[float], None]) -> None:
    pauses = Pauses(tmp_path, "")
    for _ in range(50):
        pauses.begin("k", ToolkitFailed("no", kind="memory"), None)
    clock(LONGEST_S - 1)
    with pytest.raises(ToolkitFailed):
        pauses.enforce("k")
    clock(1)
    assert pauses.enforce("k") is None


def test_a_clock_that_goes_back_ends_a_pause(tmp_path: Path, clock: Callable[[float], None]) -> None:
    """Boards without a battery start in 1970."""
    pauses = Pauses(tmp_path, "")
    for _ in range(2):
        pauses.begin("k", ToolkitFailed("no", kind="memory"), None)
    clock(-1e6)
    assert pauses.enforce("k") is None


def test_what_did_compile_is_used_meanwhile(tmp_path: Path, clock: Callable[[float], None]) -> None:
    for _ in range(2):
        assert start(tmp_path, HalfKilled(), TWO_PARTS, HALF_OPTIONS) == 1
    idle = ScriptedToolkit()
    found = load_or_convert(TWO_PARTS, HALF_OPTIONS, cache_dir=tmp_path, compile=idle)
    assert len(found.npu_steps) == 1
    assert "failed 2 times" in found.provisional
    assert not idle.requests
    clock(FIRST_S)
    assert start(tmp_path, ScriptedToolkit(), TWO_PARTS, HALF_OPTIONS) == 2


def test_another_toolkit_is_tried_at_once(tmp_path: Path) -> None:
    for _ in range(2):
        Pauses(tmp_path, "2.3.2").begin("k", ToolkitFailed("no", kind="memory"), None)
    assert Pauses(tmp_path, "2.4.0").enforce("k") is None
    with pytest.raises(ToolkitFailed):
        Pauses(tmp_path, "2.3.2").enforce("k")


def test_clearing_the_cache_ends_all(tmp_path: Path) -> None:
    for _ in range(2):
        start(tmp_path, failing())
    assert CliRunner().invoke(command, ["--dir", str(tmp_path), "clear"]).exit_code == 0
    assert start(tmp_path, ScriptedToolkit()) == 1


def test_a_broken_toolkit_is_paused_only_where_it_is_dear(tmp_path: Path) -> None:
    for dear, paused in ((False, False), (True, True)):
        for _ in range(2):
            with pytest.raises(ToolkitBroken):
                start(tmp_path, ScriptedToolkit(fails_with=ToolkitBroken("does not start", dear=dear)))
        third = ScriptedToolkit()
        if paused:
            with pytest.raises(ToolkitBroken, match="failed 2 times"):
                start(tmp_path, third)
        else:
            assert start(tmp_path, third) == 1
            Cache(tmp_path).clear()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"tries": "x"}'])
def test_a_damaged_note_counts_for_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "paused" / "k").mkdir(parents=True)
    (tmp_path / "paused" / "k" / "pause.json").write_text(content)
    assert Pauses(tmp_path, "").enforce("k") is None
