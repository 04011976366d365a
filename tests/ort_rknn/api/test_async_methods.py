"""The asynchronous verbs, on sessions with and without an NPU part."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

import ort_rknn
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.errors import SubmitTimeout
from tests.helpers.ort_models import model

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
W = np.float32([[1, 2], [-1, 3]])


def feed(number: float) -> dict[str, Any]:
    return {"A": A * number, "B": A}


def expected(number: float) -> Any:
    return np.maximum(A * number @ W, 0) + A


@pytest.fixture(params=["cpu", "simulator"])
def session(request: pytest.FixtureRequest, npu_session: Callable[..., Any]) -> Iterator[Any]:
    if request.param == "simulator":
        yield npu_session()
    else:
        with ort_rknn.InferenceSession(model("two"), providers=["CPUExecutionProvider"]) as opened:
            yield opened


def test_submit(session: Any) -> None:
    jobs = [session.submit(["Y"], feed(number)) for number in range(5)]
    for number, job in enumerate(jobs):
        assert job.wait(20)
        assert np.array_equal(job.result()[0], expected(number))


def test_submit_copies(session: Any) -> None:
    array = A.copy()
    job = session.submit(["Y"], {"A": array, "B": A})
    array[:] = 99
    assert np.array_equal(job.result()[0], expected(1))


def test_submit_takes_lists_and_ort_values(session: Any) -> None:
    value = ort_rknn.OrtValue.ortvalue_from_numpy(A)
    for given in (A.tolist(), value):
        assert np.array_equal(session.submit(["Y"], {"A": given, "B": A}).result()[0], expected(1))


def test_submit_refuses_bad_feeds(session: Any) -> None:
    with pytest.raises(ValueError, match="Required inputs"):
        session.submit(None, {"A": A})
    with pytest.raises(InvalidArgument, match="Got invalid dimensions"):
        session.submit(None, {"A": A[:2], "B": A}).result()


@pytest.mark.parametrize("names", [["nope"], ["Y", "nope"]])
def test_submit_refuses_outputs_that_are_not_there(names: list[str], session: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"Invalid output name: ?nope"):
        session.submit(names, feed(1))
    assert session.wait_all(5)


def test_submit_refuses_inputs_that_are_not_there(session: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"Invalid input name: ?Q"):
        session.submit(None, {**feed(1), "Q": A})
    assert session.wait_all(5)


def test_submit_calls_back_in_order(session: Any) -> None:
    got: list[Any] = []
    for number in range(4):
        session.submit(["Y"], feed(number), callback=lambda r, u, e: got.append((u, e, r[0])), user_data=number)
    assert session.wait_all(20)
    assert [(user, error) for user, error, _ in got] == [(number, "") for number in range(4)]
    for number, (_, _, array) in enumerate(got):
        assert np.array_equal(array, expected(number))


@pytest.mark.parametrize("ordered", [True, False])
def test_map(session: Any, ordered: bool) -> None:
    results = list(session.map(["Y"], (feed(number) for number in range(20)), ordered=ordered))
    found = {result[0].tobytes() for result in results}
    assert found == {expected(number).tobytes() for number in range(20)}
    if ordered:
        assert all(np.array_equal(result[0], expected(number)) for number, result in enumerate(results))


def test_map_is_lazy(session: Any) -> None:
    read: list[int] = []

    def feeds() -> Iterator[dict[str, Any]]:
        for number in range(1000):
            read.append(number)
            yield feed(number)

    stream = session.map(["Y"], feeds(), depth=2)
    assert np.array_equal(next(stream)[0], expected(0))
    assert len(read) <= 3
    stream.close()
    with pytest.raises(ValueError, match="depth must be at least 1"):
        session.map(None, [], depth=0)


def test_pipeline(session: Any) -> None:
    results = [session.run_pipeline(feed(number), depth=3) for number in range(6)]
    assert results[:3] == [None, None, None]
    rest = [result for result in results if result is not None] + session.drain()
    assert [np.array_equal(result[0], expected(number)) for number, result in enumerate(rest)] == [True] * 6
    assert session.drain() == []


def test_arun(session: Any) -> None:
    async def work() -> list[Any]:
        return await asyncio.gather(*(session.arun(["Y"], feed(number)) for number in range(30)))

    results = asyncio.run(work())
    assert all(np.array_equal(result[0], expected(number)) for number, result in enumerate(results))


@pytest.mark.parametrize("overflow", ["raise", "drop_oldest"])
def test_arun_heeds_overflow(overflow: str, npu_session: Callable[..., Any]) -> None:
    device = FakeDevice(1)
    session = npu_session(device=lambda: device, overflow=overflow, max_queue_size=2)

    async def work() -> list[Any]:
        tasks = [asyncio.ensure_future(session.arun(["Y"], feed(number))) for number in range(30)]
        await asyncio.sleep(0)  # all of them are submitted now
        device.open_all()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(work())
    refused = [one for one in results if isinstance(one, (SubmitTimeout, asyncio.CancelledError))]
    assert len(refused) >= 20
    assert {type(one) for one in refused} == {SubmitTimeout if overflow == "raise" else asyncio.CancelledError}
    assert isinstance(results[0 if overflow == "raise" else -1], list)


def test_sessions_on_the_cpu_take_the_engines_options() -> None:
    options = {"device": "cpu", "overflow": "raise", "max_queue_size": 7, "schedule": [0, 1, 2]}
    session = ort_rknn.InferenceSession(model("two"), providers=[("RKNNExecutionProvider", options)])
    assert np.array_equal(session.submit(["Y"], feed(2)).result()[0], expected(2))
    taken = session._engine().options
    assert (taken.overflow, taken.max_queue_size, taken.schedule) == ("raise", 7, None)


def test_async_with(session: Any) -> None:
    async def work() -> Any:
        async with session as opened:
            return await opened.arun(["Y"], feed(2))

    assert np.array_equal(asyncio.run(work())[0], expected(2))


def test_stats(session: Any) -> None:
    before = session.stats().accepted
    session.submit(None, feed(1)).result()
    assert session.stats().accepted == before + 1
    assert session.wait_all(20)


def test_close_waits_and_leaves_no_thread(session: Any) -> None:
    before = set(threading.enumerate())
    job = session.submit(None, feed(1))
    session.close()
    assert job.done()
    assert not [thread for thread in set(threading.enumerate()) - before if "ort_rknn" in thread.name]


def test_no_room_is_an_error_after_the_timeout(npu_session: Callable[..., Any]) -> None:
    device = FakeDevice(1)
    session = npu_session(device=device, max_queue_size=1, submit_timeout_ms=50)
    try:
        jobs = [session.submit(None, feed(number)) for number in range(2)]
        with pytest.raises(SubmitTimeout):
            session.submit(None, feed(9))
        with pytest.raises(SubmitTimeout):
            session.submit(None, feed(9), timeout=0)
    finally:
        device.open_all()
    assert all(job.wait(20) for job in jobs)


def test_run_async_keeps_the_session_alive(npu_session: Callable[..., Any]) -> None:
    npu_session()  # converted once; the next is not held by the fixture
    providers = [("RKNNExecutionProvider", {"device": "simulator", "min_gain": 0})]
    ended = threading.Event()
    ort_rknn.InferenceSession(model("two"), providers=providers).run_async(
        None, feed(1), lambda results, user, error: ended.set(), None
    )
    assert ended.wait(20)


def test_wait_all_and_close_wait_for_the_callbacks_of_run_async(session: Any) -> None:
    gate, told = threading.Event(), []

    def callback(results: Any, number: Any, error: str) -> None:
        gate.wait(20)
        told.append((number, error))

    for number in range(3):
        session.run_async(None, feed(number), callback, number)
    assert not session.wait_all(0.05)
    gate.set()
    assert session.wait_all(20)
    assert sorted(told) == [(0, ""), (1, ""), (2, "")]
    session.run_async(None, feed(3), callback, 3)
    session.close()
    assert told[-1] == (3, "")


def test_close_and_wait_all_in_a_callback_of_run_async(session: Any) -> None:
    refused, ended = [], threading.Event()

    def callback(results: Any, number: Any, error: str) -> None:
        try:
            session.wait_all()
        except RuntimeError as reason:
            refused.append(str(reason))
        session.close()
        ended.set()

    session.run_async(None, feed(1), callback)
    assert ended.wait(20)
    assert refused == ["wait_all() in a callback would wait for that callback"]


def test_a_refused_run_async_is_not_waited_for(session: Any) -> None:
    with pytest.raises(ValueError, match="Required inputs"):
        session.run_async(None, {"A": A}, print)
    assert session.wait_all(20)


@pytest.mark.parametrize("names", [None, [], ["Y"]], ids=["none", "empty", "named"])
@pytest.mark.parametrize(
    "kind", [np.asarray, np.asfortranarray, np.ndarray.tolist, ort_rknn.OrtValue.ortvalue_from_numpy]
)
def test_run_async_takes_what_onnxruntime_takes(kind: Callable[..., Any], names: Any, session: Any) -> None:
    """Arrays of the declared types go a short way, all else by onnxruntime's checks."""
    ended, seen = threading.Event(), []

    def callback(results: Any, user_data: Any, error: str) -> None:
        seen.append((results, user_data, error))
        ended.set()

    given = {name: kind(value) for name, value in feed(2).items()}
    session.run_async(names, given, callback, "mine")
    given["A"] = None
    assert ended.wait(20)
    [(results, user_data, error)] = seen
    np.testing.assert_allclose(results[0], expected(2), rtol=1e-3)
    assert (user_data, error) == ("mine", "")


def test_run_async_refuses_what_is_no_function(session: Any) -> None:
    with pytest.raises(TypeError):
        session.run_async(None, feed(1), "no function", None)
    assert session.wait_all(20)


@pytest.mark.parametrize("names", ["Y", b"Y", bytearray(b"Y"), 5])
def test_names_that_are_no_list_are_refused_by_every_call(session: Any, names: Any) -> None:
    with pytest.raises(TypeError) as refused:
        session.run(names, feed(1))
    for call in (
        lambda: session.submit(names, feed(1)),
        lambda: session.submit(names, feed(1), callback=lambda *_: None),
        lambda: asyncio.run(session.arun(names, feed(1))),
        lambda: list(session.map(names, [feed(1)])),
    ):
        with pytest.raises(TypeError) as again:
            call()
        assert str(again.value) == str(refused.value)
    with pytest.raises(TypeError, match=r"run_async\(\): incompatible function arguments"):
        session.run_async(names, feed(1), lambda *_: None, None)
    assert session.wait_all(5)


def test_names_from_a_generator_are_read_once(session: Any) -> None:
    assert np.array_equal(session.submit((name for name in ["Y"]), feed(1)).result()[0], expected(1))
