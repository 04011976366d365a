"""run(): in the caller's thread on an idle lane, on a lane's thread else, from anywhere."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from ort_rknn.devices.program import Program
from ort_rknn.errors import DeviceError, SessionClosed
from tests.helpers.engines import LONG, Background, Calls, fake, frame, npu_part, our_threads, program


def test_an_idle_lane_serves_run_in_the_callers_thread(new_engine) -> None:
    device = fake(3, gated=False)
    engine = new_engine(device)
    for tag in range(5):
        assert engine.run(frame(tag))[0][0, 0] == tag
    assert {call.thread_id for call in device.calls} == {threading.get_ident()}
    assert our_threads() == []
    assert len(device.opened) == 1, "calls that never overlap pay for one context"


def test_concurrent_calls_open_further_lanes(new_engine) -> None:
    device = fake(3)
    engine = new_engine(device)
    calls = [Background(lambda tag=tag: engine.run(frame(tag))) for tag in range(3)]
    cores = {device.gate(tag).wait_started().core for tag in range(3)}
    assert cores == {0, 1, 2}
    device.open_all()
    assert sorted(call.result()[0][0, 0] for call in calls) == [0, 1, 2]
    assert our_threads() == [], "each ran in its caller's thread"


def test_run_waits_its_turn_when_all_lanes_are_busy(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    jobs = [engine.submit(frame(tag)) for tag in range(4)]
    device.gate(0).wait_started()
    call = Background(lambda: engine.run(frame(9)))
    assert call.blocks()
    device.open_all()
    assert call.result()[0][0, 0] == 9
    assert [call.key for call in device.calls] == [0, 1, 2, 3, 9]
    assert all(job.result(LONG) for job in jobs)


def test_w3_run_completes_although_queue_and_callbacks_are_full(new_engine) -> None:
    """EZ-W3."""
    device = fake(1, gated=False)
    engine = new_engine(device, max_callback_queue_size=1, max_queue_size=1)
    leave = threading.Event()
    for _ in range(2):
        engine.submit(frame(0), callback=lambda *_: leave.wait(LONG)).result(LONG)
    assert engine.run(frame(4))[0][0, 0] == 4
    leave.set()


def test_an_error_reaches_the_caller_and_the_next_call_works(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    device.gate(0).fail(-8)
    with pytest.raises(DeviceError, match="RKNN_ERR_INPUT_INVALID"):
        engine.run(frame(0))
    device.gate(1).open()
    assert engine.run(frame(1))[0][0, 0] == 1
    assert len(device.opened) == 2, "the context was opened anew"


def test_ez30_run_counts_as_a_job_of_the_schedule(new_engine) -> None:
    device = fake(3, gated=False)
    engine = new_engine(device, schedule=[2, 0])
    for tag in range(4):
        engine.run(frame(tag))
    assert [call.core for call in device.calls] == [2, 0, 2, 0]


def test_results_belong_to_the_caller(new_engine) -> None:
    device = fake(1, gated=False)
    engine = new_engine(device)
    feed = frame(1)
    result = engine.run(feed)[0]
    result[:] = 5
    assert (feed["x"] == 1).all()


def test_an_output_that_is_an_input_is_copied(new_engine) -> None:
    device = fake(1, gated=False)
    engine = new_engine(Program.from_steps([npu_part()], device, outputs=["y", "x"]))
    feed = frame(1)
    for results in (engine.run(feed), engine.submit(feed, copy=False).result(LONG)):
        results[1][:] = 5
    assert (feed["x"] == 1).all()
    np.testing.assert_array_equal(engine.run(feed, ["x"])[0], feed["x"])
    np.testing.assert_array_equal(engine.submit(feed, ["x"]).result(LONG)[0], feed["x"])


def test_terminate_is_heeded(new_engine) -> None:
    """ORT-14."""
    device, calls = fake(1, gated=False), Calls()
    engine = new_engine(device)
    options = SimpleNamespace(terminate=True)
    with pytest.raises(Exception, match="FAIL : Exiting due to terminate flag being set to true"):
        engine.run(frame(0), run_options=options)
    engine.submit(frame(0), run_options=options, callback=calls)
    assert calls.wait(1)[0][2] == "Exiting due to terminate flag being set to true."
    assert device.calls == []


def test_run_after_close(new_engine) -> None:
    engine = new_engine(program(fake(1, gated=False)))
    engine.close()
    with pytest.raises(SessionClosed):
        engine.run(frame(0))
    with pytest.raises(SessionClosed):
        engine.submit(frame(0))
