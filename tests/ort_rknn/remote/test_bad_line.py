"""A line that is slow, loses connections, or is dead: right answers or a typed error within the limit."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ort_rknn
from tests.helpers.bad_line import BadLine
from tests.helpers.serving import put_models, served

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
W = np.float32([[1, 2], [-1, 3]])


def feed(number: int) -> dict[str, Any]:
    return {"A": A * number, "B": A}


def right(number: int, result: Any) -> bool:
    return bool(np.array_equal(result[0], A * np.float32(number) @ W))


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with served(put_models(tmp_path_factory.mktemp("models"), "two"), idle=0) as server:
        assert server.http_port is not None
        yield {"grpc": server.grpc_ports[0], "http": server.http_port}


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_slow(scheme: str, ports: dict[str, int]) -> None:
    with (
        BadLine(ports[scheme], delay=0.05) as line,  # there and back: 100 ms
        ort_rknn.InferenceSession(f"{scheme}://127.0.0.1:{line.port}/two") as session,
    ):
        begun = time.monotonic()
        results = list(session.map(["K"], (feed(number) for number in range(12))))
        assert all(right(number, result) for number, result in enumerate(results))
        assert time.monotonic() - begun > 0.1


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_slow_and_lossy(scheme: str, ports: dict[str, int]) -> None:
    """100 ms there and back, one packet of a hundred lost: slower, and nothing else; no call is even tried again."""
    with (
        BadLine(ports[scheme], delay=0.05, late=0.01) as line,
        ort_rknn.InferenceSession(f"{scheme}://127.0.0.1:{line.port}/two") as session,
    ):
        results = list(session.map(["K"], (feed(number) for number in range(200))))
        assert [right(number, result) for number, result in enumerate(results)] == [True] * 200
        assert line.repeats > 0
        assert session.stats().failed == 0


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_connections_that_are_cut(scheme: str, ports: dict[str, int]) -> None:
    """A cut loses the calls under way, which are tried again: all answers come, in order and right."""
    with (
        BadLine(ports[scheme], loss=0.01) as line,
        ort_rknn.InferenceSession(f"{scheme}://127.0.0.1:{line.port}/two?timeout=30") as session,
    ):
        for number, result in enumerate(session.map(["K"], (feed(number) for number in range(300)))):
            assert right(number, result)
        assert line.cuts > 0


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_cable_that_is_pulled_in_mid_call(scheme: str, ports: dict[str, int]) -> None:
    with (
        BadLine(ports[scheme]) as line,
        ort_rknn.InferenceSession(f"{scheme}://127.0.0.1:{line.port}/two?timeout=1") as session,
    ):
        assert right(1, session.run(["K"], feed(1)))
        line.dead.set()
        begun = time.monotonic()
        with pytest.raises(ort_rknn.InferenceTimeout, match="gave no answer within 1 s"):
            session.run(["K"], feed(1))
        assert time.monotonic() - begun < 4
        line.dead.clear()
        line.cut()
        deadline = time.monotonic() + 20
        while True:  # without a new session
            try:
                assert right(2, session.run(["K"], feed(2)))
                break
            except (ort_rknn.DeviceUnavailable, ort_rknn.InferenceTimeout):
                assert time.monotonic() < deadline


@pytest.mark.parametrize("slow", [b"x", b""])
def test_a_server_that_sends_a_byte_at_a_time(slow: bytes) -> None:
    """A socket's limit begins anew with each byte; the call's does not."""
    begun, ended = time.monotonic(), threading.Event()

    def serve(listening: socket.socket) -> None:
        with listening, listening.accept()[0] as line:
            line.recv(1 << 16)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not ended.wait(0.05):
                try:
                    line.sendall(slow)
                except OSError:
                    return

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = threading.Thread(target=serve, args=(listening,), daemon=True)
    server.start()
    try:
        with pytest.raises(ort_rknn.InferenceTimeout):
            ort_rknn.InferenceSession(f"http://127.0.0.1:{port}/two?timeout=0.5")
    finally:
        ended.set()
        server.join(10)
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    "said", ["[" * 5000, "[]", "{}", '{"parameters": {"ort_rknn.outside": {"string_value": "{}"}}}', '{"input": 5}']
)
def test_a_server_that_describes_nothing(said: str) -> None:
    def serve(listening: socket.socket) -> None:
        with listening, listening.accept()[0] as line:
            line.recv(1 << 16)
            line.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n{said}".encode())

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = threading.Thread(target=serve, args=(listening,), daemon=True)
    server.start()
    with pytest.raises(ort_rknn.DeviceError, match="describes the model in a way that cannot be read"):
        ort_rknn.InferenceSession(f"http://127.0.0.1:{port}/two?timeout=5")
    server.join(10)
