"""Every engine test runs on every kind of lanes; afterwards nothing may be left and nothing misused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ort_rknn.devices.fake import FakeDevice
from ort_rknn.devices.program import Program
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.lanes.base import LanesFactory
from ort_rknn.engine.lanes.threads import ThreadLanes
from ort_rknn.engine.options import EngineOptions
from tests.helpers.engines import LONG, our_threads, program
from tests.helpers.native_fake import native_lanes

NewEngine = Callable[..., Engine]


@pytest.fixture(params=["thread", "native"])
def lanes(request: pytest.FixtureRequest) -> LanesFactory:
    """Makes the lanes under test."""
    return {"thread": ThreadLanes, "native": native_lanes}[request.param]


@pytest.fixture
def kind(lanes: LanesFactory) -> str:
    """``thread`` or ``native``."""
    return "thread" if lanes is ThreadLanes else "native"


@pytest.fixture
def new_engine(lanes: LanesFactory) -> Iterator[NewEngine]:
    """Makes engines on a fake device (or a program), and closes them after the test."""
    made: list[Engine] = []
    devices: list[FakeDevice] = []

    def make(
        what: FakeDevice | Program, *, fallback: Any = None, on_closed: Any = None, clock: Any = None, **options: Any
    ) -> Engine:
        extra = {} if clock is None else {"clock": clock}
        model = what if isinstance(what, Program) else program(what)
        engine = Engine(model, EngineOptions(**options), lanes=lanes, fallback=fallback, on_closed=on_closed, **extra)
        made.append(engine)
        if isinstance(model.device, FakeDevice):
            devices.append(model.device)
        return engine

    yield make
    for device in devices:
        device.open_all()
    for engine in made:
        engine.close()
    made.clear()
    for device in devices:
        device.wait_closed(LONG)  # those that hung in a device were not waited for
    for thread in threading.enumerate():
        if thread.name.startswith("ort_rknn lane"):
            thread.join(LONG)
    for device in devices:
        assert device.misuse == []
        assert device.alive == []
    assert our_threads() == []
