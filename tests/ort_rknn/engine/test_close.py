"""The end: every accepted job ends exactly once, whatever happens to the engine. Invariants 1 and 6, EZ-W4."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path

import pytest

from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError, SessionClosed
from tests.helpers.engines import LONG, Background, Calls, fake, frame, our_threads, program

ROOT = Path(__file__).resolve().parents[3]


def test_w4_close_finishes_what_was_accepted(new_engine) -> None:
    device, calls = fake(2), Calls()
    engine = new_engine(device)
    for tag in range(5):
        engine.submit(frame(tag), callback=calls, user_data=tag)
    closing = Background(engine.close)
    assert closing.blocks()
    device.open_all()
    closing.result()
    assert calls.order() == [0, 1, 2, 3, 4]
    assert all(err == "" for _, _, err in calls.seen)
    assert our_threads() == []
    assert device.alive == []
    engine.close()


def test_w4_close_can_cancel_what_waits(new_engine) -> None:
    device, calls = fake(1), Calls()
    engine = new_engine(device)
    jobs = [engine.submit(frame(tag), callback=calls, user_data=tag) for tag in range(4)]
    device.gate(0).wait_started()
    closing = Background(lambda: engine.close(cancel_jobs=True))
    assert closing.blocks()
    assert [job.cancelled() for job in jobs] == [False, True, True, True]
    device.open_all()
    closing.result()
    assert calls.order() == [0, 1, 2, 3]
    assert [err for _, _, err in calls.seen] == ["", *["the job was not run: the session was closed"] * 3]


def test_close_frees_submitters_that_wait_for_room(new_engine) -> None:
    device = fake(1)
    engine = new_engine(device)
    for tag in range(4):
        engine.submit(frame(tag))
    waiting = [Background(lambda: engine.submit(frame(9))) for _ in range(3)]
    assert all(call.blocks() for call in waiting)
    engine.close(wait=False)
    for call in waiting:
        with pytest.raises(SessionClosed):
            call.result()
    device.open_all()


def test_close_in_a_callback(new_engine) -> None:
    device, calls = fake(1, gated=False), Calls()
    engine = new_engine(device)

    def closing(results: object, user_data: object, err: str) -> None:
        engine.close()
        calls(results, user_data, err)

    engine.submit(frame(0), callback=closing)
    calls.wait(1)
    engine.close()
    assert device.alive == []


def test_on_closed_comes_after_the_contexts(new_engine) -> None:
    device = fake(1, gated=False)
    engine = new_engine(device, on_closed=device.close)
    engine.submit(frame(0)).result(LONG)
    engine.close()
    assert device.closed
    assert device.misuse == []


def test_dropping_an_engine_closes_it(new_engine) -> None:
    device = fake(2, gated=False)
    engine = Engine(program(device))
    engine.run(frame(0))
    engine.submit(frame(1)).result(LONG)
    gone = weakref.ref(engine)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ort_rknn")]
    del engine
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(LONG)
    assert device.alive == []
    assert our_threads() == []


def test_dropping_an_engine_finishes_what_it_accepted() -> None:
    device, calls = fake(1), Calls()
    engine = Engine(program(device))
    for tag in range(4):
        engine.submit(frame(tag), callback=calls, user_data=tag)
    del engine
    gc.collect()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ort_rknn")]
    device.open_all()
    calls.wait(4)
    assert calls.order() == [0, 1, 2, 3]
    for thread in threads:
        thread.join(LONG)
    assert our_threads() == []
    assert device.alive == []


def test_dropping_the_last_reference_in_a_callback() -> None:
    device = fake(1)
    held = [Engine(program(device))]
    dropped = threading.Event()

    def callback(*_: object) -> None:
        held.clear()
        dropped.set()

    held[0].submit(frame(0), callback=callback)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ort_rknn")]
    device.open_all()
    assert dropped.wait(LONG)
    for thread in threads:
        thread.join(LONG)
    assert device.alive == []


def test_an_ended_job_holds_neither_inputs_nor_engine_threads(new_engine) -> None:
    device = fake(1, gated=False)
    engine = new_engine(device)
    feed = frame(0)
    kept = weakref.ref(feed["x"])
    job = engine.submit(feed, copy=False)
    job.result(LONG)
    assert engine.wait_all(LONG)
    engine.run(frame(1))
    del feed
    gc.collect()
    assert kept() is None


def _python(code: str) -> subprocess.CompletedProcess[str]:
    head = """
        import os, sys, threading
        from tests.helpers.engines import *
        from ort_rknn.engine.engine import Engine
        from ort_rknn.engine.options import EngineOptions
        from ort_rknn.engine import job_manager
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


def test_w4_interpreter_exit_with_jobs_in_flight() -> None:
    """EZ's queued tasks vanish there; onnxruntime's own run_async aborts the process."""
    ran = _python(
        """
        device = fake(2)
        engine = Engine(program(device), EngineOptions(max_queue_size=64))
        for tag in range(20):
            engine.submit(frame(tag), callback=lambda r, tag, err: print(tag, repr(err), flush=True), user_data=tag)
        device.gate(0).wait_started()
        import atexit
        atexit.register(device.open_all)   # runs first: the inferences end while the interpreter exits
        """
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split("\n")[:20] == [f"{tag} ''" for tag in range(20)]


def test_interpreter_exit_with_an_inference_that_hangs() -> None:
    ran = _python(
        """
        job_manager.EXIT_GRACE_S = 0.2
        engine = Engine(program(fake(1)))
        for tag in range(3):
            engine.submit(frame(tag), callback=lambda r, tag, err: print(tag, err, flush=True), user_data=tag)
        """
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = sorted(ran.stdout.strip().split("\n"))
    assert lines == [
        "0 the interpreter is exiting and the inference has not ended",
        "1 the job was not run: the interpreter is exiting",
        "2 the job was not run: the interpreter is exiting",
    ]


def test_exit_while_a_daemon_thread_submits() -> None:
    ran = _python(
        """
        engine = Engine(program(fake(2, gated=False)))
        def forever():
            while True:
                engine.submit(frame(0))
        threading.Thread(target=forever, daemon=True).start()
        engine.submit(frame(1)).result()
        """
    )
    assert ran.returncode == 0
    assert "Fatal" not in ran.stderr


@pytest.mark.parametrize("busy", [False, True])
def test_a_forked_child_gets_a_clear_error(busy: bool) -> None:
    ran = _python(
        f"""
        import warnings
        warnings.simplefilter("ignore")
        device = fake(2)
        engine = Engine(program(device), EngineOptions(max_queue_size=8))
        job = None
        if {busy}:
            job = [engine.submit(frame(tag)) for tag in range(4)][-1]
            device.gate(0).wait_started()
        child = os.fork()
        if not child:
            for call in (engine.run, engine.submit):
                try:
                    call(frame(1))
                except RuntimeError as error:
                    print(error)
            if job is not None:
                print(job.wait(0), job.exception())
            engine.close()
            other = Engine(program(fake(1, gated=False)))
            print(other.submit(frame(3)).result()[0][0, 0])
            other.close()
            sys.stdout.flush()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        device.open_all()
        print("parent", engine.run(frame(5))[0][0, 0])
        engine.close()
        """
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.strip().split("\n")
    assert sum("made before fork()" in line for line in lines) == (3 if busy else 2)
    assert lines[-2:] == ["3.0", "parent 5.0"]


def test_many_closes_at_once(new_engine) -> None:
    device = fake(2)
    engine = new_engine(device, max_queue_size=8)
    jobs = [engine.submit(frame(tag)) for tag in range(6)]
    closing = [Background(engine.close) for _ in range(4)]
    device.open_all()
    for call in closing:
        call.result()
    assert all(job.done() for job in jobs)
    ended = {"cancelled" if job.cancelled() else type(job.exception(0)).__name__ for job in jobs}
    assert ended <= {"cancelled", "NoneType", "SessionClosed"}, "each job has one end"


def test_runs_that_meet_a_close_are_served_or_refused(new_engine) -> None:
    for _ in range(20):
        device = fake(2, gated=False)
        engine = new_engine(device)
        started = threading.Barrier(4)

        def call(engine: Engine = engine, started: threading.Barrier = started) -> int:
            served = 0
            started.wait(LONG)
            while True:
                try:
                    engine.run(frame(0))
                except SessionClosed:
                    return served
                served += 1

        calls = [Background(call) for _ in range(3)]
        started.wait(LONG)
        engine.close()
        assert device.alive == []
        served = sum(each.result() for each in calls)
        stats = engine.stats()
        assert (stats.runs, sum(lane.tasks for lane in stats.lanes)) == (served, served), "the refused do not count"


def test_options_are_kept() -> None:
    engine = Engine(program(fake(1)), EngineOptions(max_queue_size=5))
    assert engine.options.max_queue_size == 5
    assert engine.width == 6
    engine.close()


def test_a_closed_engine_is_freed_although_its_device_knows_it(lanes) -> None:
    device = fake(1, gated=False)
    engine = Engine(program(device), lanes=lanes)
    device.user = engine  # type: ignore[attr-defined]
    engine.run(frame(1))
    engine.close()
    gone = weakref.ref(device)
    del device, engine
    gc.collect()
    assert gone() is None


def test_an_engine_dropped_after_a_failure_is_freed(lanes) -> None:
    device = fake(1)
    engine = Engine(program(device), lanes=lanes)
    gone = weakref.ref(engine)
    device.gate(1).fail(-1)

    with pytest.raises(DeviceError):
        engine.run(frame(1))
    del engine
    gc.collect()
    assert gone() is None
    pause = threading.Event()
    while our_threads() and not pause.wait(0.01):
        pass
    assert device.alive == []
