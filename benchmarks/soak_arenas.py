"""Where a soak takes place: one engine each, on a device that fails and hangs, and the judgement of all its jobs."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ort_rknn.devices.base import SegmentCode
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.devices.program import BoundNpuStep, Program
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.lanes.threads import ThreadLanes
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError
from tests.helpers.emulated_npu import npu, segment
from tests.helpers.emulator import Emulator, Model, Tensor
from tests.helpers.engines import program as fake_program

__all__ = ["FEEDS", "PATIENCE_S", "Arena", "FakeArena", "Ledger", "NativeArena", "Slot"]

FEEDS = 32
CORES = 3
FAULTS = 0.01  # share of the runs that fail; this and the next chosen so that a round sees some
HANGS = 0.0005  # share of the runs that hang
MOODS = ("a living",) * 5 + ("a dead", "a dying", "a reviving")
PATIENCE_S = 30.0  # for what must end by itself
MODEL = Model((Tensor("x", "float16", (1, 4)),), (Tensor("y", "float16", (1, 4)),))


class Slot:
    """What became of one job; ``job_id`` is filled in when its submission has returned."""

    __slots__ = ("ended", "job_id", "told", "wants_callback")

    def __init__(self, wants_callback: bool) -> None:
        self.job_id = -1
        self.ended = 0
        self.told = 0
        self.wants_callback = wants_callback


@dataclass
class Ledger:
    """What happened, and what must not happen."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, number: int = 1) -> None:
        with self.lock:
            self.counts[name] += number

    def wrong(self, what: str, number: int = 1) -> None:
        if number:
            with self.lock:
                self.violations[what] += number


class Arena:
    """One engine, from its opening to the judgement of all its jobs."""

    name = ""

    def __init__(self, engine: Engine, expected: Sequence[Any], ledger: Ledger) -> None:
        self.engine = engine
        self.expected = expected
        self.ledger = ledger
        self.slots: list[Slot] = []
        self.told: list[Slot] = []
        self.feeds = [{"x": np.full((1, 4), k, np.float32)} for k in range(FEEDS)]

    def release(self) -> None:
        """Let what hangs in the device go on."""

    def judge(self) -> None:
        """Check what must hold when the engine is closed."""
        ledger, slots = self.ledger, self.slots
        deadline = time.monotonic() + PATIENCE_S
        while any(slot.ended == 0 for slot in slots) and time.monotonic() < deadline:
            self.release()
            time.sleep(0.01)
        self.engine.close()
        ledger.wrong("jobs that never ended", sum(slot.ended == 0 for slot in slots))
        ledger.wrong("jobs that ended twice", sum(slot.ended > 1 for slot in slots))
        ledger.wrong("callbacks not called once", sum(slot.told != slot.wants_callback for slot in slots))
        if self.engine.options.sequential_callbacks:
            ids = [slot.job_id for slot in self.told]
            ledger.wrong("callbacks out of order", sum(b < a for a, b in itertools.pairwise(ids)))
        stats = self.engine.stats()
        ledger.wrong("jobs lost in the counters", stats.accepted - stats.completed - stats.failed - stats.cancelled)
        for name in ("accepted", "completed", "failed", "cancelled", "dropped", "runs"):
            ledger.add(name, getattr(stats, name))
        ledger.add(f"{self.name}: jobs and runs", stats.accepted + stats.runs)
        ledger.add("cores taken out of service", len(stats.notes))


class FakeArena(Arena):
    """Thread lanes on the fake device."""

    name = "thread lanes, fake device"

    def __init__(self, options: EngineOptions, dice: random.Random, ledger: Ledger) -> None:
        self._dice = dice
        self._hanging = threading.Event()
        self._hangs = HANGS if options.run_timeout_ms else 0.0
        self.device = FakeDevice(CORES, gated=False, compute=self._compute)
        engine = Engine(fake_program(self.device), options, lanes=ThreadLanes)
        super().__init__(engine, [np.full((1, 4), k + 0.5, np.float32) for k in range(FEEDS)], ledger)

    def _compute(self, code: SegmentCode, inputs: Sequence[Any]) -> Sequence[Any]:
        chance = self._dice.random()
        result = [inputs[0] + np.float32(0.5)]
        if chance < self._hangs:
            self.ledger.add("hangs")
            self._hanging.wait(PATIENCE_S)
        elif chance < FAULTS:
            self.ledger.add("faults")
            raise DeviceError("rknn_run failed", call="rknn_run", code=-1)
        elif chance > 0.5:
            time.sleep((chance - 0.5) / 500)  # up to 1 ms
        return result

    def release(self) -> None:
        hanging, self._hanging = self._hanging, threading.Event()
        hanging.set()

    def judge(self) -> None:
        super().judge()
        self.release()
        if not self.device.wait_closed(PATIENCE_S):
            self.ledger.wrong("contexts left", len(self.device.alive))
        self.ledger.wrong("misuses of a device", len(self.device.misuse))


class NativeArena(Arena):
    """Native lanes on the emulated librknnrt."""

    name = "native lanes, emulated runtime"
    expected_answers: Sequence[Any] = ()

    def __init__(
        self, emulator: Emulator, options: EngineOptions, dice: random.Random, ledger: Ledger, *, first: bool = True
    ) -> None:
        self.emulator = emulator
        self._first = first  # of those that share the emulator: it sets the faults, and judges what is left
        self._planned: Counter[str] = Counter()
        if first:
            pattern = ",".join(str(dice.choice((0, 100, 300, 1000))) for _ in range(40))
            emulator.reset()
            emulator.configure(cores=CORES, pattern=pattern)
        code = segment(MODEL)
        device = npu(emulator)
        part = BoundNpuStep("npu_0", ("x",), ("y",), code)
        engine = Engine(Program.from_steps([part], device, outputs=["y"]), options, on_closed=device.close)
        assert type(engine._manager.lanes).__name__ == "NativeLanes"
        if not NativeArena.expected_answers:
            feeds = [np.full((1, 4), k, np.float32) for k in range(FEEDS)]
            NativeArena.expected_answers = [MODEL.answer([feed])[0] for feed in feeds]
        super().__init__(engine, NativeArena.expected_answers, ledger)
        if first:
            mood = dice.choice(MOODS)
            ledger.add(f"rounds with {mood} NPU")
            emulator.configure(fault=self._faults(dice, mood, bool(options.run_timeout_ms)))

    def _faults(self, dice: random.Random, mood: str, hangs: bool) -> str:
        """Faults of the next 5000 runs; the emulator holds 64 of them."""
        if mood != "a living":
            call = dice.choice(("rknn_run", "rknn_run", "rknn_inputs_set", "rknn_outputs_get"))
            begin = 1 if mood == "a dead" else dice.randint(2, 400)
            return f"{call}@{begin}x{dice.randint(3, 60) if mood == 'a reviving' else '*'}=-1"
        calls = ["rknn_run"] * 4 + ["rknn_inputs_set", "rknn_outputs_get"]
        planned = []
        for place in range(50):
            call = dice.choice(calls)
            hang = hangs and call == "rknn_run" and dice.random() < HANGS / FAULTS
            self_name = "hangs" if hang else "faults"
            planned.append((f"{call}@{dice.randint(1, 100) + 100 * place}={'hang' if hang else -1}", self_name))
        self._planned = Counter(kind for _, kind in planned)
        return ";".join(text for text, _ in planned)

    def release(self) -> None:
        self.emulator.release_hangs()

    def judge(self) -> None:
        super().judge()
        if not self._first:
            return
        deadline = time.monotonic() + PATIENCE_S
        while self.emulator.count("contexts") and time.monotonic() < deadline:
            self.release()
            time.sleep(0.01)
        self.ledger.wrong("contexts left", self.emulator.count("contexts"))
        self.ledger.wrong("misuses of a device", sum(self.emulator.misuses().values()))
        share = min(1.0, self.emulator.count("rknn_run") / 5000)
        for kind, number in self._planned.items():
            self.ledger.add(kind, round(number * share))
