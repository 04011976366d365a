"""Servers that are killed, frozen and restarted under a client: a typed error within the limit, then it works again."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import ort_rknn
from tests.helpers.serving import ServerProcess, put_models
from tests.helpers.slow_models import put_compiled, slow

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
W = np.float32([[1, 2], [-1, 3]])
ERRORS = (ort_rknn.DeviceUnavailable, ort_rknn.InferenceTimeout)


def feed(number: int) -> dict[str, Any]:
    return {"A": A * number, "B": A}


def right(number: int, result: Any) -> bool:
    return bool(np.array_equal(result[0], A * np.float32(number) @ W))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_models(tmp_path_factory.mktemp("models"), "two")


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(folder, "--http", "127.0.0.1:0") as running:
        yield running


def address(server: ServerProcess, scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{server.port if scheme == 'grpc' else server.http_port}/two"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_killed_and_restarted(scheme: str, server: ServerProcess, folder: Path) -> None:
    with ort_rknn.InferenceSession(f"{address(server, scheme)}?timeout=5") as session:
        assert right(2, session.run(["K"], feed(2)))
        server.end(signal.SIGKILL)
        begun = time.monotonic()
        with pytest.raises(ERRORS):
            session.run(["K"], feed(2))
        assert time.monotonic() - begun < 6
        with ServerProcess(folder, "--http", f"127.0.0.1:{server.http_port}", port=server.port):
            deadline = time.monotonic() + 20
            while True:  # without a new session
                try:
                    assert right(3, session.run(["K"], feed(3)))
                    break
                except ort_rknn.DeviceUnavailable:
                    assert time.monotonic() < deadline


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_frozen_and_thawed(scheme: str, server: ServerProcess) -> None:
    with ort_rknn.InferenceSession(f"{address(server, scheme)}?timeout=3") as session:
        assert right(1, session.run(["K"], feed(1)))
        server.send(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(ort_rknn.InferenceTimeout, match="gave no answer within 3 s"):
            session.run(["K"], feed(1))
        assert 2.9 < time.monotonic() - begun < 8
        server.send(signal.SIGCONT)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert right(4, session.run(["K"], feed(4)))
                break
            except ERRORS:
                assert time.monotonic() < deadline


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_one_of_two_is_killed_in_many_calls(scheme: str, server: ServerProcess, folder: Path) -> None:
    """All are answered, in order and right; the survivor takes what is left."""
    count = 10_000 if os.environ.get("ORT_RKNN_LONG_TESTS") else 1_000
    with ServerProcess(folder, "--http", "127.0.0.1:0") as other:
        two = address(server, scheme).replace(
            "/two", f",127.0.0.1:{other.port if scheme == 'grpc' else other.http_port}/two"
        )
        with ort_rknn.InferenceSession(f"{two}?timeout=20") as session:
            done = 0
            killer = threading.Thread(target=lambda: server.end(signal.SIGKILL))
            for number, result in enumerate(session.map(["K"], (feed(number) for number in range(count)))):
                assert right(number, result)
                done += 1
                if number == count // 3:
                    killer.start()
            killer.join()
            assert done == count
            assert session.stats().failed == 0


def test_overload_takes_no_memory(folder: Path) -> None:
    """Forty clients of a server with four places: hundreds of megabytes come in, and no more are kept than fit."""
    array = np.zeros((131_072, 2), np.float32)  # 1 MB
    codes: set[str] = set()

    def call(port: int) -> None:
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            given = triton.InferInput("X", list(array.shape), "FP32")
            given.set_data_from_numpy(array)
            for _ in range(10):
                try:
                    client.infer("dynamic", [given], client_timeout=60)
                    codes.add("OK")
                except InferenceServerException as error:
                    codes.add(str(error.status()))

    put_models(folder, "dynamic")
    with ServerProcess(folder, "--load", "dynamic", "--pending", "4", "--max-message", "2") as server:
        with ort_rknn.InferenceSession(f"grpc://127.0.0.1:{server.port}/dynamic") as session:
            session.run(None, {"X": array})
        before = most_memory(server.process.pid)
        threads = [threading.Thread(target=call, args=(server.port,)) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # On a fast computer no more than four of them may ever be there at once: refusals are test_pressure's.
        assert "OK" in codes
        assert codes <= {"OK", "StatusCode.RESOURCE_EXHAUSTED"}
        # measured: 105 to 122 MB, of 400 that came in; a thread each reads its request before it can be refused
        assert most_memory(server.process.pid) - before < 250


def most_memory(pid: int) -> float:
    """Megabytes that a process has had at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def test_cut_in_mid_call(tmp_path: Path) -> None:
    folder = put_compiled(tmp_path / "models", "two")
    options = [f"{key}={value}" for key, value in slow(3000, 1).items() if key != "device"]
    arguments = [word for option in options for word in ("--option", option)]
    with (
        ServerProcess(folder, "--device", "simulator", *arguments) as server,
        ort_rknn.InferenceSession(f"grpc://127.0.0.1:{server.port}/two?timeout=8") as session,
    ):
        assert session.get_providers()[0] == "RKNNExecutionProvider"
        job = session.submit(["K"], feed(1))
        time.sleep(0.3)
        server.end(signal.SIGKILL)
        begun = time.monotonic()
        assert isinstance(job.exception(10), ort_rknn.DeviceUnavailable)
        assert time.monotonic() - begun < 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])  # the second: its terminal was closed
def test_a_signal_finishes_what_was_accepted(
    number: signal.Signals, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # nohup has it ignored, and a server leaves it so
    request.addfinalizer(lambda: signal.signal(number, before))
    folder = put_compiled(tmp_path / "models", "two")
    options = [f"{key}={value}" for key, value in slow(500, 1).items() if key != "device"]
    arguments = [word for option in options for word in ("--option", option)]
    with ServerProcess(folder, "--device", "simulator", "--load", "two", *arguments) as server:
        with ort_rknn.InferenceSession(f"grpc://127.0.0.1:{server.port}/two") as session:
            jobs = [session.submit(["K"], feed(number)) for number in range(3)]
            time.sleep(0.3)  # they are on their way
            server.send(number)
            assert [right(number, job.result(10)) for number, job in enumerate(jobs)] == [True] * 3
        assert server.process.wait(20) == 0
        server.wait_for("going down: no more calls, finishing 3")
        server.wait_for("ended")


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AssertionError, match="in use"):
        ServerProcess(folder, port=taken.getsockname()[1])


def test_a_unix_socket_that_is_taken(folder: Path, tmp_path: Path) -> None:
    """A second server must not take the socket; one that was killed leaves a file, which is no hindrance."""
    place = f"unix:{tmp_path}/npu.sock"
    with ServerProcess(folder, "--listen", place) as first:
        with pytest.raises(AssertionError, match=r"cannot listen at unix:.*: another server does"):
            ServerProcess(folder, "--listen", place)
        with ort_rknn.InferenceSession(f"grpc+{place}/two") as session:
            assert right(2, session.run(["K"], feed(2)))
        first.end(signal.SIGKILL)
    with ServerProcess(folder, "--listen", place), ort_rknn.InferenceSession(f"grpc+{place}/two") as session:
        assert right(3, session.run(["K"], feed(3)))
