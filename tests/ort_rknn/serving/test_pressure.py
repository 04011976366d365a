"""Overload, cancelled calls, deadlines, and the end in order: nothing accepted is lost, nothing waits for ever."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import ort_rknn
from ort_rknn.remote.failures import Refusal
from ort_rknn.serving.server import Server
from tests.helpers.serving import served
from tests.helpers.slow_models import put_compiled, slow

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
FEED = {"A": A, "B": A}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_compiled(tmp_path_factory.mktemp("models"), "two")


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Server]]:
    opened: list[Any] = []

    def start(milliseconds: float, cores: int = 1, **more: Any) -> Server:
        options = slow(milliseconds, cores, threads_per_core=1, max_queue_size=1)
        opened.append(served(folder, options=options, load=("two",), **more))
        server: Server = opened[-1].__enter__()
        deadline = time.monotonic() + 30
        while not server.service.ready and time.monotonic() < deadline:
            time.sleep(0.01)
        return server

    yield start
    for one in opened:
        one.__exit__(None, None, None)


def request() -> list[triton.InferInput]:
    made = [triton.InferInput(name, [3, 2], "FP32") for name in FEED]
    for one in made:
        one.set_data_from_numpy(A)
    return made


def test_ten_times_too_much_is_refused_and_the_rest_served_in_time(serve: Callable[..., Server]) -> None:
    server = serve(20, pending=6)
    port = server.grpc_ports[0]

    def call(_: int) -> tuple[str, float]:
        begun = time.monotonic()
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            try:
                client.infer("two", request(), client_timeout=20)
            except InferenceServerException as error:
                return str(error.status()), time.monotonic() - begun
        return "OK", time.monotonic() - begun

    with ThreadPoolExecutor(60) as pool:
        results = list(pool.map(call, range(240)))
    codes = {code for code, _ in results}
    assert codes == {"OK", "StatusCode.RESOURCE_EXHAUSTED"}
    assert server.service.under_way == 0
    numbers = server.repository.statistics("two").snapshot()
    assert numbers.answered == sum(code == "OK" for code, _ in results) > 0
    assert numbers.seconds / numbers.answered < 1.5  # six in the house at 20 ms each


def test_http_says_429_and_when_to_come_back(serve: Callable[..., Server]) -> None:
    server = serve(400, pending=1)
    body = {"inputs": [{"name": name, "datatype": "FP32", "shape": [3, 2], "data": A.tolist()} for name in FEED]}
    url = f"http://127.0.0.1:{server.http_port}/v2/models/two/infer"
    with ort_rknn.InferenceSession(f"grpc://127.0.0.1:{server.grpc_ports[0]}/two") as session:
        first = session.submit(None, FEED)
        wait_until(lambda: server.service.under_way == 1)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10)
        assert refused.value.code == 429
        assert refused.value.headers["Retry-After"] == "1"
        assert json.loads(refused.value.read())["error"].startswith("1 calls are under way")
        refused.value.close()
        with pytest.raises(ort_rknn.SubmitTimeout, match="1 calls are under way, which is all this server takes"):
            session.run(None, FEED)
        assert first.result(20)[0].shape == (3, 2)


def wait_until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_cancelled_call_is_withdrawn(serve: Callable[..., Server]) -> None:
    server = serve(500)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_ports[0]}") as client:
        calls = [client.async_infer("two", request(), lambda result, error: None) for _ in range(4)]
        wait_until(lambda: server.service.under_way == 4)
        for call in calls[1:]:
            call.cancel()
        wait_until(lambda: server.service.under_way == 0)
    numbers = server.repository.statistics("two").snapshot()
    assert numbers.codes["CANCELLED"] >= 2
    assert numbers.seconds < 3  # the cancelled ones took no core


def test_deadlines_travel(serve: Callable[..., Server]) -> None:
    server = serve(600)
    for address in (f"grpc://127.0.0.1:{server.grpc_ports[0]}", f"http://127.0.0.1:{server.http_port}"):
        with ort_rknn.InferenceSession(f"{address}/two?timeout=0.3") as session:
            begun = time.monotonic()
            with pytest.raises(ort_rknn.InferenceTimeout):
                session.run(None, FEED)
            assert time.monotonic() - begun < 3
        wait_until(lambda: server.service.under_way == 0, 5)


def test_a_request_parameter_is_a_limit_too(serve: Callable[..., Server]) -> None:
    server = serve(600)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_ports[0]}") as client:
        with pytest.raises(InferenceServerException, match="gave no answer in time"):
            client.infer("two", request(), timeout=100_000)
        with pytest.raises(InferenceServerException, match="whole number of microseconds"):
            client.infer("two", request(), parameters={"timeout ": 1}, timeout=-1)


def test_a_limit_that_is_far_away_costs_no_thread(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(20)
    queued: list[float] = []
    queue = server.service._queued

    def spied(*given: Any) -> Any:
        queued.append(given[-1])
        return queue(*given)

    monkeypatch.setattr(server.service, "_queued", spied)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_ports[0]}") as client:
        for microseconds, handed_over in ((30_000_000, 1), (30_000_000, 1), (100_000, 2), (0, 2), (900_000, 3)):
            result = client.infer("two", request(), timeout=microseconds or None)
            assert result.as_numpy("K").tolist() == (A @ [[1, 2], [-1, 3]]).tolist()
            assert len(queued) == handed_over  # nobody knew at first how long a run takes; 50 of them are a second


def test_the_end_finishes_what_was_accepted(serve: Callable[..., Server]) -> None:
    server = serve(300)
    address = f"127.0.0.1:{server.grpc_ports[0]}"
    with ort_rknn.InferenceSession(f"grpc://{address}/two") as session:
        jobs = [session.submit(None, FEED) for _ in range(3)]
        wait_until(lambda: server.service.under_way == 3)
        stopped: list[bool] = []
        stopper = threading.Thread(target=lambda: stopped.append(server.stop()))
        stopper.start()
        wait_until(lambda: not server.service.ready)
        with pytest.raises(Refusal, match="the server is going down"):
            server.service.enter()
        assert [job.result(20)[1].tolist() for job in jobs] == [(A @ [[1, 2], [-1, 3]]).tolist()] * 3
        stopper.join(20)
        assert stopped == [True]
        with pytest.raises((ort_rknn.DeviceUnavailable, ort_rknn.SessionClosed)):
            session.run(None, FEED)
