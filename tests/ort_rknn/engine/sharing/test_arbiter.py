"""The arbiter: who goes first, what is kept free, what comes back after a hang and after kill -9."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ort_rknn.devices.rknnrt.native_calls import NativeLibrary
from ort_rknn.engine.sharing.arbiter import KEY_VARIABLE, Arbiter, Gate
from tests.helpers.emulated_npu import build_native
from tests.helpers.engines import LONG

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def library() -> NativeLibrary:
    return NativeLibrary(build_native())


@pytest.fixture
def semaphores(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A key of this test's own; the semaphores go with it."""
    key = 0x7E570000 + os.getpid() % 0x10000
    monkeypatch.setenv(KEY_VARIABLE, hex(key))
    yield key
    subprocess.run(["ipcrm", "-S", hex(key)], check=False, capture_output=True)


class Caller:
    """A thread that goes through a gate, and stays until it is let go."""

    def __init__(self, gate: Gate, name: str, order: list[str]) -> None:
        self.inside, self._leave = threading.Event(), threading.Event()
        self._gate, self._name, self._order = gate, name, order
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        with self._gate:
            self._order.append(self._name)
            self.inside.set()
            self._leave.wait(LONG)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(LONG)

    def waits(self) -> bool:
        return not self.inside.wait(0.05)


def enter(arbiter: Arbiter, priority: str, order: list[str], number: int = 1, weight: int = 1) -> list[Caller]:
    return [Caller(arbiter.gate(priority, weight), priority, order) for _ in range(number)]


def let_in(callers: list[Caller]) -> None:
    for caller in callers:
        assert caller.inside.wait(LONG)


def test_one_class_has_two_tokens_a_core(library: NativeLibrary) -> None:
    arbiter, order = Arbiter(library, 3), list[str]()
    callers = enter(arbiter, "normal", order, 6)
    let_in(callers)
    assert arbiter.taken == 6
    (last,) = enter(arbiter, "normal", order)
    assert last.waits()
    callers[0].leave()
    assert last.inside.wait(LONG)
    for caller in (*callers, last):
        caller.leave()
    assert arbiter.taken == 0


def test_the_highest_class_that_waits_goes_first(library: NativeLibrary) -> None:
    arbiter, order = Arbiter(library, 1), list[str]()
    held = enter(arbiter, "normal", order, 2)
    let_in(held)
    waiting = []
    for priority in ("low", "normal", "high"):
        waiting += enter(arbiter, priority, order)
        assert waiting[-1].waits()
    order.clear()
    for caller in held:
        caller.leave()
    for priority in ("high", "normal", "low"):  # one core, classes mixed: one at a time
        waited = next(one for one in waiting if one._name == priority)
        assert waited.inside.wait(LONG)
        assert arbiter.taken == 1
        waited.leave()
    assert order == ["high", "normal", "low"]


def test_who_waits_long_rises(library: NativeLibrary) -> None:
    """A class every 0.5 s: after a second low is as good as high, and first by its time."""
    arbiter, order = Arbiter(library, 1), list[str]()
    held = enter(arbiter, "high", order, 2)
    let_in(held)
    (low,) = enter(arbiter, "low", order)
    assert not low.inside.wait(1.1)
    (high,) = enter(arbiter, "high", order)
    assert high.waits()
    order.clear()
    for caller in held:
        caller.leave()
    assert low.inside.wait(LONG)
    low.leave()
    assert high.inside.wait(LONG)
    high.leave()
    assert order == ["low", "high"]


def test_reserved_cores_are_kept_for_high(library: NativeLibrary) -> None:
    arbiter, order = Arbiter(library, 3), list[str]()
    arbiter.reserve(1)
    bulk = enter(arbiter, "normal", order, 2)
    let_in(bulk)
    more = enter(arbiter, "low", order) + enter(arbiter, "normal", order)
    assert all(caller.waits() for caller in more)
    (high,) = enter(arbiter, "high", order)
    assert high.inside.wait(LONG)
    high.leave()
    arbiter.reserve(-1)
    let_in(more[:1])
    for caller in (*bulk, *more):
        caller.leave()
    assert arbiter.taken == 0


def test_one_core_always_stays_for_the_others(library: NativeLibrary) -> None:
    arbiter = Arbiter(library, 2)
    arbiter.reserve(2)
    with arbiter.gate("low", 1):
        assert arbiter.taken == 1


def test_an_inference_on_three_cores_takes_three_tokens(library: NativeLibrary) -> None:
    arbiter, order = Arbiter(library, 3), list[str]()
    both = enter(arbiter, "normal", order, 2, weight=3)
    let_in(both)
    assert arbiter.taken == 6
    for caller in both:
        caller.leave()


def test_what_hangs_gives_its_token_to_others(library: NativeLibrary) -> None:
    arbiter, order = Arbiter(library, 1), list[str]()
    gates = [arbiter.gate("normal", 1) for _ in range(2)]
    hanging = [Caller(gate, "hangs", order) for gate in gates]
    let_in(hanging)
    (other,) = enter(arbiter, "normal", order)
    assert other.waits()
    gates[0].forfeit()
    assert other.inside.wait(LONG)
    for caller in (*hanging, other):
        caller.leave()
    assert arbiter.taken == 0, "what was forfeited is not given back twice"


def test_it_costs_little_where_nobody_waits(library: NativeLibrary) -> None:
    """From Python, by ctypes; the limit is wide because the machine may be busy. Native lanes pay none of ctypes."""
    gate = Arbiter(library, 3).gate("normal", 1)
    best = min(_seconds(gate) for _ in range(20))
    assert best < 20e-6


def _seconds(gate: Gate) -> float:
    begun = time.perf_counter()
    for _ in range(100):
        with gate:
            pass
    return (time.perf_counter() - begun) / 100


HOLDER = """
    import sys, time
    from pathlib import Path
    from ort_rknn.devices.rknnrt.native_calls import NativeLibrary
    from ort_rknn.engine.sharing.arbiter import Arbiter
    arbiter = Arbiter(NativeLibrary(Path(sys.argv[1])), 3, "machine")
    gates = [arbiter.gate(sys.argv[2], 1) for _ in range(int(sys.argv[3]))]
    for gate in gates:
        gate.__enter__()
    print("inside", flush=True)
    time.sleep(60)
"""


def holder(library: NativeLibrary, priority: str, number: int) -> subprocess.Popen[str]:
    """Another program that holds so many tokens."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(library.path), priority, str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_tokens_of_a_killed_process_come_back_at_once(library: NativeLibrary, semaphores: int) -> None:
    arbiter, order = Arbiter(library, 3, "machine"), list[str]()
    others = [holder(library, "normal", 3) for _ in range(2)]
    assert arbiter.taken == 6
    (waiting,) = enter(arbiter, "normal", order)
    assert waiting.waits()
    for process in others:
        kill(process)
    killed = time.monotonic()
    assert waiting.inside.wait(LONG)
    assert time.monotonic() - killed < 1.0
    assert arbiter.taken == 1
    waiting.leave()
    assert arbiter.taken == 0


def test_classes_hold_between_processes(library: NativeLibrary, semaphores: int) -> None:
    arbiter, order = Arbiter(library, 3, "machine"), list[str]()
    other = holder(library, "normal", 6)
    (low,) = enter(arbiter, "low", order)
    assert low.waits()
    (high,) = enter(arbiter, "high", order)
    assert high.waits()
    kill(other)
    assert high.inside.wait(LONG)
    assert low.inside.wait(LONG)
    for caller in (low, high):
        caller.leave()
    assert order[0] == "high"
    assert arbiter.taken == 0


def test_a_killed_process_reserves_nothing_any_more(library: NativeLibrary, semaphores: int) -> None:
    script = HOLDER.replace('print("inside"', 'arbiter.reserve(2)\n    print("inside"')
    command = [sys.executable, "-c", textwrap.dedent(script), str(library.path), "high", "0"]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert other.stdout is not None
    assert other.stdout.readline() == "inside\n"
    arbiter, order = Arbiter(library, 3, "machine"), list[str]()
    callers = enter(arbiter, "normal", order, 2)
    assert sum(caller.inside.wait(0.3) for caller in callers) == 1
    kill(other)
    let_in(callers)
    for caller in callers:
        caller.leave()
