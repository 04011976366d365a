"""Batch dispatch: EZ-15, EZ-23."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ort_rknn
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError, SubmitTimeout
from ort_rknn.sessions.batch_dispatch import KEYS, BatchJob, split_batch, submit_batch
from tests.helpers.engines import LONG, Background, Calls, fake, program
from tests.helpers.ort_models import model

Open = Callable[..., Any]


@pytest.fixture
def device() -> FakeDevice:
    return fake(3)


@pytest.fixture
def engine(device: FakeDevice) -> Iterator[Engine]:
    engine = Engine(program(device), EngineOptions(max_queue_size=3))
    yield engine
    device.open_all()
    engine.close()
    assert device.misuse == []


def batch_of(size: int) -> dict[str, Any]:
    return {"x": np.repeat(np.arange(size, dtype=np.float32)[:, None], 4, axis=1)}


def submitted(engine: Engine, size: int) -> BatchJob:
    return submit_batch(engine.submit, engine.submit_parked, batch_of(size))


def test_ez23_a_batch_uses_all_cores_and_stays_in_order(engine: Engine, device: FakeDevice) -> None:
    batch = {"x": np.repeat(np.arange(7, dtype=np.float32)[:, None], 4, axis=1)}
    call = Background(lambda: submit_batch(engine.submit, engine.submit_parked, batch).result())
    cores = {device.gate(tag).wait_started(LONG).core for tag in range(3)}
    assert cores == {0, 1, 2}
    for tag in reversed(range(7)):
        device.gate(tag).open()
    [result] = call.result()
    np.testing.assert_array_equal(result, batch["x"])


def test_a_failing_sample_fails_the_batch_and_cancels_the_rest(engine: Engine, device: FakeDevice) -> None:
    job = submitted(engine, 10)
    for tag in range(3):
        device.gate(tag).wait_started(LONG)
    device.gate(0).fail(-1)
    assert job._jobs[9].wait(LONG)
    assert job._jobs[9].cancelled()
    assert not job.done(), "two samples still run"
    device.open_all()
    with pytest.raises(DeviceError):
        job.result(LONG)
    assert engine.wait_all(LONG)
    assert len(device.calls) <= 4


@pytest.mark.parametrize(
    "feed",
    [
        {"x": np.zeros((0, 4))},
        {"x": np.zeros((2, 4)), "z": np.zeros((3, 4))},
        {"x": np.zeros((2, 4)), "z": np.float32(1)},
        {},
    ],
    ids=["empty", "unequal", "scalar", "none"],
)
def test_ez23_batches_that_cannot_be_split(feed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="batch dispatch"):
        split_batch(feed)


def test_a_batch_is_one_job(engine: Engine, device: FakeDevice) -> None:
    job = submitted(engine, 10)
    for tag in range(3):
        device.gate(tag).wait_started(LONG)
    assert (job.running(), job.done(), job.cancel(), job.wait(0)) == (True, False, False, False)
    ended = Calls()
    job.add_done_callback(lambda one: ended(one, None, ""))
    device.open_all()
    assert job.wait(LONG)
    assert job.result()[0].shape == (10, 4)
    assert ended.wait(1)[0][0] is job
    assert job.timing.device > 0
    assert job.timing.queue <= job.timing.total


def test_a_batch_that_has_not_begun_can_be_cancelled(engine: Engine, device: FakeDevice) -> None:
    first = submitted(engine, 3)
    second = submitted(engine, 500)
    assert second.cancel()
    assert second.cancelled()
    device.open_all()
    assert first.result(LONG)[0].shape == (3, 4)
    assert len(device.calls) == 3


def test_a_batch_waits_for_room_like_any_job(engine: Engine, device: FakeDevice) -> None:
    job = submitted(engine, 20)
    with pytest.raises(SubmitTimeout):
        engine.submit(batch_of(1), timeout=0)
    device.open_all()
    assert job.result(LONG)[0].shape == (20, 4)


def test_closing_ends_a_batch(engine: Engine, device: FakeDevice) -> None:
    job = submitted(engine, 20)
    device.gate(0).wait_started(LONG)
    closing = Background(lambda: engine.close(cancel_jobs=True))
    device.open_all()
    closing.result()
    assert job.wait(LONG)


# --- at the session ---------------------------------------------------------------------------------------------------

PICTURES = {"X": np.arange(7 * 32, dtype=np.float32).reshape(7, 2, 4, 4) - 100}


def run_options(kind: str, value: Any = "1") -> Any:
    if kind == "RunOptions":
        options = ort_rknn.RunOptions()
        options.add_run_config_entry(KEYS[0], value)
        return options
    if kind == "object":
        return SimpleNamespace(get_run_config_entry=lambda key: {KEYS[1]: value}.get(key))
    return {kind: value}


@pytest.mark.parametrize("kind", ["RunOptions", *KEYS])
def test_ez23_the_session_takes_the_key(npu_session: Open, kind: str) -> None:
    session = npu_session("mixed", simulator_latency_ms=5)
    expected = np.concatenate([session.run(["Y"], {"X": PICTURES["X"][one : one + 1]})[0] for one in range(7)])
    before = session.stats().lanes
    [result] = session.run(["Y"], PICTURES, run_options(kind))
    np.testing.assert_array_equal(result, expected)
    assert all(new.tasks > old.tasks for old, new in zip(before, session.stats().lanes, strict=True)), "all three cores"
    np.testing.assert_array_equal(session.submit(["Y"], PICTURES, run_options(kind)).result(LONG)[0], expected)


def test_any_object_with_entries_is_taken_as_run_options(npu_session: Open) -> None:
    session = npu_session("mixed")
    assert session.submit(["Y"], PICTURES, run_options("object", "true")).result(LONG)[0].shape == (7, 2, 4, 4)


def test_submit_dispatches_batches_on_the_cpu_too() -> None:
    with ort_rknn.InferenceSession(model("mixed"), providers=["CPUExecutionProvider"]) as session:
        job = session.submit(["Y"], PICTURES, run_options("RunOptions"))
        assert job.result(LONG)[0].shape == (7, 2, 4, 4)


@pytest.mark.parametrize("kind", ["RunOptions", "object", *KEYS])
def test_ez15_it_is_refused_with_a_callback(npu_session: Open, kind: str) -> None:
    session = npu_session("mixed")
    called = Calls()
    with pytest.raises(RuntimeError, match=r"works with run\(\) and submit\(\), not with a callback"):
        session.run_async(None, PICTURES, called, None, run_options(kind))
    with pytest.raises(RuntimeError, match="not with a callback"):
        session.submit(None, PICTURES, run_options(kind), callback=called)
    assert session.wait_all(LONG)
    assert called.seen == []


def test_it_can_be_switched_off_and_must_be_clear(npu_session: Open) -> None:
    session = npu_session("mixed")
    one = {"X": PICTURES["X"][:1]}
    assert session.run(["Y"], one, {KEYS[1]: False})[0].shape == (1, 2, 4, 4)
    assert session.run(["Y"], one, run_options("RunOptions", "0"))[0].shape == (1, 2, 4, 4)
    with pytest.raises(ValueError, match="must be true or false, not 'maybe'"):
        session.run(None, one, {KEYS[1]: "maybe"})
    with pytest.raises(TypeError):
        session.run(None, one, {"something": 1})


def test_outputs_that_cannot_be_joined_are_that_jobs_error() -> None:
    device = FakeDevice(2, gated=False, compute=lambda code, inputs: [np.zeros((1, int(inputs[0].flat[0])))])
    engine = Engine(program(device))
    with pytest.raises(ValueError, match="must match exactly"):
        submitted(engine, 3).result(LONG)
    engine.close()
