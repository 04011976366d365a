"""Sessions of models on a server of this process: every verb, over gRPC and HTTP."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from ort_rknn.remote.engine import in_flight
from ort_rknn.serving.security import Listen
from tests.helpers.ort_models import model
from tests.helpers.serving import FREE, TOKEN, put_models, served, token_file

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
FEED = {"A": A, "B": A}
NAMES = ("two", "dynamic", "string", "half", "int64", "mixed")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = put_models(tmp_path_factory.mktemp("models"), *NAMES)
    unix = str(tmp_path_factory.mktemp("sockets") / "s")
    with served(folder, listen=(FREE, Listen(unix=unix))) as server:
        yield {
            "grpc": f"grpc://127.0.0.1:{server.grpc_ports[0]}",
            "http": f"http://127.0.0.1:{server.http_port}",
            "unix": f"grpc+unix:{unix}",
        }


@pytest.fixture(params=["grpc", "http", "unix"])
def address(request: pytest.FixtureRequest, addresses: dict[str, str]) -> str:
    return addresses[request.param]


def expected(name: str, feed: dict[str, Any]) -> list[Any]:
    return onnxruntime.InferenceSession(model(name), providers=["CPUExecutionProvider"]).run(None, feed)


def same(left: Any, right: Any) -> bool:
    pairs = zip(left, right, strict=True)
    return all(one.dtype == other.dtype and np.array_equal(one, other) for one, other in pairs)


def test_run_and_what_a_session_says(address: str) -> None:
    with ort_rknn.InferenceSession(f"{address}/two") as session:
        assert isinstance(session, onnxruntime.InferenceSession)
        assert same(session.run(None, FEED), expected("two", FEED))
        local = onnxruntime.InferenceSession(model("two"), providers=["CPUExecutionProvider"])
        for question in ("get_inputs", "get_outputs"):
            assert list(map(str, getattr(session, question)())) == list(map(str, getattr(local, question)()))
        assert session.get_modelmeta().custom_metadata_map == {"names": "a,b,c"}
        assert session.get_providers() == ["CPUExecutionProvider"]
        assert "another machine" in str(session.plan)


def test_arrays_belong_to_the_caller(address: str) -> None:
    with ort_rknn.InferenceSession(f"{address}/two") as session:
        first = session.run(["Y"], FEED)[0]
        first[:] = 0
        assert session.run(["Y"], FEED)[0].any()


def test_every_verb(address: str) -> None:
    wanted = expected("two", FEED)
    with ort_rknn.InferenceSession(f"{address}/two") as session:
        assert same(session.submit(None, FEED).result(20), wanted)
        got: list[Any] = []
        called = threading.Event()
        session.run_async(None, FEED, lambda *result: (got.extend(result), called.set()), "data")
        assert called.wait(20)
        assert same(got[0], wanted)
        assert got[1:] == ["data", ""]
        assert same(asyncio.run(session.arun(None, FEED)), wanted)
        assert session.wait_all(20)
        assert session.stats().completed == 3


def test_map_keeps_the_order(address: str) -> None:
    with ort_rknn.InferenceSession(f"{address}/two") as session:
        results = session.map(["K"], ({"A": A * number, "B": A} for number in range(40)))
        assert [result[0][0, 1] for result in results] == [8.0 * number for number in range(40)]
        assert session._engine().width > in_flight(0)


def test_calls_under_way_are_a_share_of_the_places() -> None:
    assert [in_flight(places) for places in (0, 1, 4, 16, 64, 100, 128, 1000)] == [12, 1, 4, 12, 12, 20, 24, 24]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_one_session_never_sends_more_than_the_server_lets_in(scheme: str, tmp_path: Path) -> None:
    with served(put_models(tmp_path, "two"), pending=2) as server:
        port = server.grpc_ports[0] if scheme == "grpc" else server.http_port
        with ort_rknn.InferenceSession(f"{scheme}://127.0.0.1:{port}/two") as session:
            assert len(list(session.map(["K"], [FEED] * 200))) == 200


@pytest.mark.parametrize(
    ("name", "feed"),
    [
        ("dynamic", {"X": np.arange(14, dtype=np.float32).reshape(7, 2)}),
        ("half", {"X": np.array([0.1, -7], np.float16)}),
        ("int64", {"X": np.array([2**62, -1], np.int64)}),
        ("string", {"X": np.array(["ü", ""], object)}),
        ("mixed", {"X": np.arange(-16, 16, dtype=np.float32).reshape(1, 2, 4, 4)}),
    ],
)
def test_types_and_shapes(name: str, feed: dict[str, Any], address: str) -> None:
    with ort_rknn.InferenceSession(f"{address}/{name}") as session:
        assert same(session.run(None, feed), expected(name, feed))


def test_errors_have_onnxruntimes_class_and_text(address: str) -> None:
    local = onnxruntime.InferenceSession(model("two"), providers=["CPUExecutionProvider"])
    with ort_rknn.InferenceSession(f"{address}/two") as session:
        for feed in ({"A": A}, {**FEED, "Q": A}, {"A": A[:2], "B": A}, {"A": A.astype(np.float64), "B": A}):
            with pytest.raises(Exception) as theirs:
                local.run(None, feed)
            with pytest.raises(type(theirs.value)) as ours:
                session.run(None, feed)
            assert str(ours.value) == str(theirs.value)


def test_a_model_that_is_not_there(address: str) -> None:
    with pytest.raises(ort_rknn.capi.onnxruntime_pybind11_state.NoSuchFile, match="there is no model 'nope'"):
        ort_rknn.InferenceSession(f"{address}/nope")


def test_closed(address: str) -> None:
    session = ort_rknn.InferenceSession(f"{address}/two")
    session.close()
    session.close()
    with pytest.raises(ort_rknn.SessionClosed):
        session.run(None, FEED)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_nobody_there(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        begun = time.monotonic()
        with pytest.raises(ort_rknn.DeviceUnavailable, match="Is `ort-rknn serve` running there"):
            ort_rknn.InferenceSession(f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/two")
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_somebody_who_never_answers(scheme: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises((ort_rknn.InferenceTimeout, ort_rknn.DeviceUnavailable)):
            ort_rknn.InferenceSession(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/two?timeout=0.5")


def test_options_of_the_server_are_refused(addresses: dict[str, str]) -> None:
    with pytest.raises(ort_rknn.InvalidOption, match="ort-rknn serve --option schedule"):
        ort_rknn.InferenceSession(f"{addresses['grpc']}/two", providers=[("RKNNExecutionProvider", {"schedule": "0"})])
    with pytest.raises(ort_rknn.InvalidOption, match="device= is for models on this machine"):
        ort_rknn.InferenceSession(f"{addresses['grpc']}/two", device="cpu")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_tokens(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(put_models(tmp_path / "models", "two"), token_file=token_file(tmp_path)) as server:
        port = server.grpc_ports[0] if scheme == "grpc" else server.http_port
        address = f"{scheme}://127.0.0.1:{port}/two"
        with pytest.raises(ort_rknn.DeviceUnavailable, match="ORT_RKNN_TOKEN"):
            ort_rknn.InferenceSession(address)
        with ort_rknn.InferenceSession(f"{address}?token_file={tmp_path}/token") as session:
            assert same(session.run(None, FEED), expected("two", FEED))
        monkeypatch.setenv("ORT_RKNN_TOKEN", TOKEN + "x")
        with pytest.raises(ort_rknn.DeviceUnavailable, match="no token, or a wrong one"):
            ort_rknn.InferenceSession(address)


def test_a_model_that_takes_long_to_open_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    with served(put_models(tmp_path, "two"), http=None) as server:
        opener = server.repository._opener
        monkeypatch.setattr(server.repository, "_opener", lambda *given: (go.wait(20), opener(*given))[1])
        address = f"grpc://127.0.0.1:{server.grpc_ports[0]}/two"
        with pytest.raises(ort_rknn.InferenceTimeout, match="model 'two' is still being opened; ask again"):
            ort_rknn.InferenceSession(f"{address}?timeout=2")
        go.set()
        with ort_rknn.InferenceSession(address) as session:
            assert same(session.run(None, FEED), expected("two", FEED))
