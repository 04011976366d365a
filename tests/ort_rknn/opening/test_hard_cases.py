"""What users do that nobody meant: options that make no sense, callbacks that close, arrays of every kind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

import ort_rknn
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.errors import InvalidOption, SessionClosed, SubmitTimeout
from tests.helpers.engines import LONG, Calls
from tests.helpers.ort_models import model

Open = Callable[..., Any]
RKNN, CPU = "RKNNExecutionProvider", "CPUExecutionProvider"
A = np.float32([[1, 2], [3, -4], [5, 6]])
FEED = {"A": A, "B": A}
RIGHT = np.maximum(A @ np.float32([[1, 2], [-1, 3]]), 0) + A


def opened(**options: Any) -> Any:
    providers = [(RKNN, {"device": "simulator", "min_gain": 0, **options}), CPU]
    return ort_rknn.InferenceSession(model("two"), providers=providers)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"schedule": 7}, "names core 7, but the device has 3"),
        ({"schedule": [0, 9]}, "names core 9"),
        ({"tp_mode": "7"}, "tp_mode"),
        ({"schedule": []}, "schedule"),
        ({"schedule": "[]"}, "schedule"),
        ({"schedule": -1}, "schedule"),
        ({"schedule": "0,-1"}, "schedule"),
        ({"schedule": "0,,1"}, "schedule"),
        ({"schedule": "first"}, "schedule"),
        ({"schedule": [0.5]}, "schedule"),
        ({"schedule": {}}, "schedule"),
        ({"schedule": 0, "tp_mode": "all"}, "exclude each other"),
        ({"tp_mode": "some"}, "tp_mode"),
        ({"max_queue_size": 0}, "max_queue_size"),
        ({"max_callback_queue_size": 0}, "max_callback_queue_size"),
        ({"threads_per_core": 0}, "threads_per_core"),
        ({"simulator_cores": 0}, "simulator_cores"),
        ({"submit_timeout_ms": -1}, "submit_timeout_ms"),
        ({"run_timeout_ms": -1}, "run_timeout_ms"),
        ({"max_queue_size": True}, "max_queue_size"),
        ({"max_queue_size": "many"}, "max_queue_size"),
    ],
    ids=str,
)
def test_ez33_ez39_options_that_make_no_sense_are_refused_with_their_name(
    npu_session: Open, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidOption, match=why) as caught:
        opened(**options)
    assert isinstance(caught.value, RuntimeError), "EZ's class"
    assert isinstance(caught.value, ValueError)


def test_a_submission_with_no_time_to_wait_is_refused_at_once(npu_session: Open) -> None:
    device = FakeDevice(1)
    session = npu_session(device=device, max_queue_size=1, submit_timeout_ms=0)
    jobs = [session.submit(None, FEED), session.submit(None, FEED)]
    with pytest.raises(SubmitTimeout, match="within 0 s"):
        session.submit(None, FEED)
    device.open_all()
    assert all(job.wait(LONG) for job in jobs)


# --- callbacks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", [None, 3, "f"])
def test_ez06_a_callback_must_be_callable(npu_session: Open, callback: Any) -> None:
    session = npu_session()
    with pytest.raises(TypeError):
        session.run_async(None, FEED, callback, None)
    assert session.stats().accepted == 0


def test_a_callback_may_close_its_session(npu_session: Open) -> None:
    session = npu_session()
    seen, all_in = Calls(), threading.Event()

    def closing(*result: Any) -> None:
        all_in.wait(LONG)
        session.close()
        seen(*result)

    for number in range(4):
        session.submit(None, FEED, callback=closing, user_data=number)
    all_in.set()
    assert [error for _, _, error in seen.wait(4)] == [""] * 4, "what was accepted is finished"
    assert seen.order() == [0, 1, 2, 3]
    with pytest.raises(SessionClosed):
        session.run(None, FEED)


@pytest.mark.parametrize("options", [{}, {"simulator_cores": 1, "max_queue_size": 1, "max_callback_queue_size": 1}])
def test_run_in_a_callback(npu_session: Open, options: dict[str, Any]) -> None:
    session = npu_session(**options)
    seen = Calls()

    def again(results: Any, number: Any, error: str) -> None:
        [result] = session.run(["Y"], FEED)
        seen([result, session.submit(["Y"], FEED).result(LONG)[0]], number, error)

    for number in range(10):
        session.run_async(None, FEED, again, number)
    for results, _, error in seen.wait(10):
        assert error == ""
        assert all(np.array_equal(result, RIGHT) for result in results)


def test_run_async_in_a_callback(npu_session: Open) -> None:
    session = npu_session(simulator_cores=1, max_queue_size=1, max_callback_queue_size=1)
    seen = Calls()

    def chain(results: Any, left: int, error: str) -> None:
        if left:
            session.run_async(None, FEED, chain, left - 1)
        seen(results, left, error)

    session.run_async(None, FEED, chain, 5)
    seen.wait(6)
    assert seen.order() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("names", [[], None, ()])
def test_no_names_are_all_outputs(npu_session: Open, names: Any) -> None:
    session = npu_session()
    seen = Calls()
    session.run_async(names, FEED, seen, "u")
    [(results, user, error)] = seen.wait(1)
    assert (len(results), user, error) == (2, "u", "")
    assert len(session.run(names, FEED)) == len(session.submit(names, FEED).result(LONG)) == 2


def test_results_of_run_async_go_nowhere_else(npu_session: Open) -> None:
    assert npu_session().run_async(None, FEED, Calls(), None) is None


# --- arrays -----------------------------------------------------------------------------------------------------------


def read_only() -> Any:
    array = A.copy()
    array.flags.writeable = False
    return array


class Sub(np.ndarray[Any, Any]):
    """A subclass, as matrices and masked arrays are."""


KINDS: dict[str, Callable[[], Any]] = {
    "read-only": read_only,
    "fortran": lambda: np.asfortranarray(A),
    "strided": lambda: np.repeat(A, 2, axis=1)[:, ::2],
    "negative stride": lambda: A[::-1].copy()[::-1],
    "big-endian": lambda: A.astype(">f4"),
    "unaligned": lambda: np.frombuffer(b"\0" + A.tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 2),
    "subclass": lambda: A.view(Sub),
    "list": A.tolist,
}


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_every_kind(npu_session: Open, kind: str) -> None:
    session = npu_session()
    array = KINDS[kind]()
    kept = np.array(array, copy=True)
    seen = Calls()
    session.run_async(["Y"], {"A": array, "B": A}, seen, None)
    results = [
        session.run(["Y"], {"A": array, "B": A}),
        session.submit(["Y"], {"A": array, "B": A}).result(LONG),
        seen.wait(1)[0][0],
    ]
    for [result] in results:
        assert np.array_equal(result, RIGHT)
        assert result.flags.writeable
    assert np.array_equal(array, kept), "inputs are only read"


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "bool"])
def test_other_types_are_onnxruntimes_error(npu_session: Open, dtype: str) -> None:
    session = npu_session()
    feed = {"A": A.astype(dtype), "B": A}
    with pytest.raises(InvalidArgument) as theirs:
        onnxruntime.InferenceSession(model("two"), providers=[CPU]).run(None, feed)
    for call in (session.run, session.submit):
        with pytest.raises(InvalidArgument) as ours:
            call(None, feed)
        assert str(ours.value) == str(theirs.value)
    seen = Calls()
    session.run_async(None, feed, seen, None)
    [(results, _, error)] = seen.wait(1)
    assert (results, "Unexpected input data type" in error) == ([], True)


@pytest.mark.parametrize("value", [np.float32(3), np.array(3, np.float32), 3.0], ids=["scalar", "0-d", "number"])
def test_arrays_without_dimensions(npu_session: Open, value: Any) -> None:
    session = npu_session("scalar")
    feed = {"X": A, "s": value}
    try:
        expected = onnxruntime.InferenceSession(model("scalar"), providers=[CPU]).run(None, feed)
    except Exception as theirs:
        with pytest.raises(type(theirs)):
            session.run(None, feed)
        return
    for results in (session.run(None, feed), session.submit(None, feed).result(LONG)):
        for ours, right in zip(results, expected, strict=True):
            assert (ours.shape, ours.dtype) == (right.shape, right.dtype)
            assert np.array_equal(ours, right)


# --- what outlives what -----------------------------------------------------------------------------------------------


def test_an_io_binding_may_outlive_its_session(npu_session: Open) -> None:
    npu_session()  # converted once; the next is not held by the fixture
    session: Any = opened()
    binding = session.io_binding()
    binding.bind_cpu_input("A", A)
    binding.bind_cpu_input("B", A)
    binding.bind_output("Y")
    session.run_with_iobinding(binding)
    session.close()
    session = None
    gc.collect()
    [result] = binding.copy_outputs_to_cpu()
    assert np.array_equal(result, RIGHT)
    binding.clear_binding_inputs()
    binding.clear_binding_outputs()
    del binding
    gc.collect()


def test_a_binding_of_another_session_is_no_crash(npu_session: Open) -> None:
    one, other = npu_session(), npu_session("mixed")
    binding = one.io_binding()
    binding.bind_cpu_input("A", A)
    with pytest.raises((RuntimeError, ValueError)):  # by onnxruntime's release
        other.run_with_iobinding(binding)


def test_a_job_may_outlive_its_session(npu_session: Open) -> None:
    npu_session()
    jobs = [opened(simulator_latency_ms=20).submit(["Y"], FEED) for _ in range(3)]
    gc.collect()
    assert all(np.array_equal(job.result(LONG)[0], RIGHT) for job in jobs)


def test_closing_from_many_threads(npu_session: Open) -> None:
    session = npu_session(simulator_latency_ms=5)
    jobs = [session.submit(None, FEED) for _ in range(3)]
    threads = [threading.Thread(target=session.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert all(job.done() for job in jobs)
