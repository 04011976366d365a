"""The handle: polling, cancelling, awaiting, timing. EZ-W7, VA-02, VA-03, VA-07, OV-15."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref

import pytest

from ort_rknn.devices.fake import FakeDevice
from ort_rknn.engine.job import InferenceJob
from ort_rknn.engine.submission import Job
from ort_rknn.errors import DeviceError, SessionClosed, SubmitTimeout
from tests.helpers.engines import LONG, Calls, fake, frame


def test_va03_polling(new_engine) -> None:
    device = fake(1)
    job = new_engine(device).submit(frame(0))
    device.gate(0).wait_started()
    assert job.wait(0) is False
    assert job.running()
    device.gate(0).open()
    assert job.wait(LONG) is True
    assert not job.running()


def test_wait_never_raises_the_jobs_error(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    failing, cancelled = engine.submit(frame(0)), engine.submit(frame(1))
    assert cancelled.cancel()
    device.gate(0).fail(-1)
    assert failing.wait(LONG) is True
    assert cancelled.wait(LONG) is True
    assert isinstance(failing.exception(), DeviceError)
    assert failing.exception().code_name == "RKNN_ERR_FAIL"  # type: ignore[union-attr]


def test_w7_result_with_a_timeout(new_engine) -> None:
    device = fake(1)
    job = new_engine(device).submit(frame(0))
    with pytest.raises((TimeoutError, concurrent.futures.TimeoutError)):
        job.result(0.01)
    device.open_all()
    assert job.result(LONG)


def test_w7_cancel_takes_a_waiting_job_out(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(device)
    running = engine.submit(frame(0))
    waiting = [engine.submit(frame(tag), callback=calls, user_data=tag) for tag in (1, 2, 3)]
    device.gate(0).wait_started()
    assert not running.cancel()
    assert waiting[1].cancel()
    assert waiting[1].cancel(), "again"
    assert waiting[1].cancelled()
    assert engine.stats().waiting == 2
    late = engine.submit(frame(4), timeout=0)
    device.open_all()
    calls.wait(3)
    assert calls.order() == [1, 2, 3]
    assert calls.seen[1] == ([], 2, "the job was not run: it was cancelled")
    assert late.result(LONG)
    assert not late.cancel()
    assert sorted(call.key for call in device.calls) == [0, 1, 3, 4]


def test_concurrent_futures_tools_work(new_engine) -> None:
    device = fake(2)
    engine = new_engine(device)
    jobs = [engine.submit(frame(tag)) for tag in range(4)]
    assert jobs[3].cancel()
    done, pending = concurrent.futures.wait(jobs, timeout=LONG, return_when=concurrent.futures.FIRST_COMPLETED)
    assert (done, len(pending)) == ({jobs[3]}, 3)
    device.open_all()
    assert set(concurrent.futures.as_completed(jobs, LONG)) == set(jobs)


def test_va07_jobs_share_no_memory(new_engine) -> None:
    device = FakeDevice(2, gated=False)
    engine = new_engine(device)
    first, second = (engine.submit(frame(3)).result(LONG)[0] for _ in range(2))
    first[:] = 0
    assert (second == 3).all()


def test_timing_and_core(new_engine, kind: str) -> None:
    if kind == "native":
        pytest.skip("native lanes read the system's clock")
    now = [10.0]
    device = fake(1)
    engine = new_engine(device, clock=lambda: now[0])
    blocker, job = engine.submit(frame(0)), engine.submit(frame(1))
    device.gate(0).wait_started()
    assert job.core is None
    assert (job.timing.queue, job.timing.total) == (0.0, 0.0)
    now[0] = 12.0
    device.gate(0).open()
    device.gate(1).wait_started()
    now[0] = 15.0
    device.gate(1).open()
    job.result(LONG)
    blocker.result(LONG)
    assert job.core == 0
    assert (job.timing.queue, job.timing.device, job.timing.total) == (2.0, 3.0, 5.0)


def test_ov15_awaiting_takes_no_thread(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)

    async def main() -> list[int]:
        jobs = [engine.submit_parked(frame(tag)) for tag in range(100)]
        tasks = [asyncio.ensure_future(_await(job)) for job in jobs]
        await asyncio.sleep(0)
        before = threading.active_count()
        device.open_all()
        results = await asyncio.wait_for(asyncio.gather(*tasks), LONG)
        assert threading.active_count() <= before + 3, "100 coroutines wait"
        return [int(result[0][0, 0]) for result in results]

    assert asyncio.run(main()) == list(range(100))


async def _await(job: InferenceJob) -> list[object]:
    return await job


def test_awaiting_a_failure_raises_it(new_engine) -> None:
    device = fake(1)
    job = new_engine(device).submit(frame(0))
    device.gate(0).fail(-1)
    with pytest.raises(DeviceError):
        asyncio.run(_await(job))


def test_cancelling_a_task_cancels_a_job_that_waits_and_leaves_a_running_one_alone(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    running, waiting = engine.submit(frame(0)), engine.submit(frame(1))
    device.gate(0).wait_started()

    async def main() -> None:
        tasks = [asyncio.ensure_future(_await(job)) for job in (running, waiting)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert waiting.cancelled()
    assert not running.cancelled()
    device.gate(0).open()
    assert running.result(LONG)


def test_awaiting_a_cancelled_job(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    engine.submit(frame(0))
    job = engine.submit(frame(1))
    job.cancel()

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await job

    asyncio.run(main())


def test_parked_jobs_go_in_order_and_can_be_cancelled(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device, max_queue_size=1)
    jobs = [engine.submit_parked(frame(tag)) for tag in range(6)]
    assert engine.stats().waiting == 1
    assert jobs[4].cancel()
    device.open_all()
    assert [int(job.result(LONG)[0][0, 0]) for job in jobs if not job.cancelled()] == [0, 1, 2, 3, 5]
    assert [call.key for call in device.calls] == [0, 1, 2, 3, 5]


def test_submissions_queue_behind_parked_jobs_and_then_all_go(new_engine) -> None:
    from tests.helpers.engines import Background

    device = fake(1)
    engine = new_engine(device, max_queue_size=1)
    parked = [engine.submit_parked(frame(tag)) for tag in range(4)]
    submitters = [Background(lambda tag=tag: engine.submit(frame(tag))) for tag in (10, 11, 12)]
    assert all(call.blocks() for call in submitters)
    device.open_all()
    for job in parked:
        job.result(LONG)
    for call in submitters:
        call.result().result(LONG)


class Kept:
    """Something that a call keeps alive."""


def test_a_job_that_nobody_holds_tells_its_callback(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(device, max_queue_size=1, submit_timeout_ms=0)
    kept = Kept()
    seen = weakref.ref(kept)
    feed = frame(0)
    engine.start(Job(lambda *ended: calls(*ended) if seen() else None, "first", None, kept), ["y"], feed)
    del kept
    device.gate(0).wait_started()
    feed["x"][:] = 9  # it has a copy
    engine.start(Job(calls, "second"), ["y"], frame(1))
    with pytest.raises(SubmitTimeout):
        engine.start(Job(calls, "third"), ["y"], frame(2))
    device.gate(0).open()
    device.gate(1).fail(-1)
    (results, _, _), (nothing, _, error) = calls.wait(2)
    assert calls.order() == ["first", "second"]
    assert results[0][0, 0] == 0
    assert nothing == []
    assert "RKNN_ERR_FAIL" in error
    assert engine.wait_all(LONG)
    assert seen() is None, "kept until its callback has returned, and no longer"
    stats = engine.stats()
    assert (stats.accepted, stats.completed, stats.failed) == (2, 1, 1)


def test_a_job_that_nobody_holds_is_cancelled_and_dropped_as_others(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(device, max_queue_size=1, overflow="drop_oldest")
    for tag in range(3):
        engine.start(Job(calls, tag), ["y"], frame(tag))
        if not tag:
            device.gate(0).wait_started()
    engine.close(wait=False, cancel_jobs=True)
    with pytest.raises(SessionClosed):
        engine.start(Job(calls, 3), ["y"], frame(3))
    device.gate(0).open()
    ends = {tag: (results, error) for results, tag, error in calls.wait(3)}
    assert ends[0][1] == ""
    assert ends[1] == ([], "the job was not run: it was dropped to make room for a newer one")
    assert ends[2] == ([], "the job was not run: the session was closed")
