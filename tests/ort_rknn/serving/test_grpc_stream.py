"""Streams that go wrong: too many, idle at the end, mangled. What they answer is tested with the clients."""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ort_rknn.serving.grpc_stream import MOST_STREAMS
from ort_rknn.serving.server import Server
from tests.helpers.serving import put_models, served
from tests.helpers.slow_models import put_compiled, slow

MESSAGES: Any = service_pb2
A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)


def request(number: int = 1) -> Any:
    made = MESSAGES.ModelInferRequest(model_name="two", id=str(number))
    for name in "AB":
        made.inputs.add(name=name, datatype="FP32", shape=[3, 2])
        made.raw_input_contents.append((A * number).tobytes())
    return made


class Open:
    """A stream that is fed by hand."""

    def __init__(self, channel: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self.answers = stub.ModelStreamInfer(iter(self._requests.get, None), timeout=60)

    def send(self, message: Any) -> None:
        self._requests.put(message)

    def end(self) -> None:
        self._requests.put(None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(put_models(tmp_path / "models", "two"), http=None, grace=30.0) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_ports[0]}") as opened:
        yield opened


def asked(stream: Open) -> str:
    stream.send(request())
    return str(next(stream.answers).error_message)


def test_one_stream_too_many_is_refused_and_other_calls_are_not(channel: Any) -> None:
    streams = [Open(channel) for _ in range(MOST_STREAMS)]
    assert [asked(stream) for stream in streams] == [""] * MOST_STREAMS
    with pytest.raises(grpc.RpcError) as refused:
        asked(Open(channel))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    assert len(stub.ModelInfer(request(), timeout=20).raw_output_contents) == 2
    streams[0].end()
    assert list(streams[0].answers) == []
    deadline = time.monotonic() + 20
    while True:
        try:
            assert asked(Open(channel)) == ""
            break
        except grpc.RpcError:
            assert time.monotonic() < deadline


def test_an_idle_stream_does_not_keep_the_server(server: Server, channel: Any) -> None:
    stream = Open(channel)
    assert asked(stream) == ""
    begun = time.monotonic()
    assert server.stop() is True
    assert time.monotonic() - begun < 10  # and not the grace of 30 s
    with pytest.raises(grpc.RpcError) as ended:
        next(stream.answers)
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE


def test_what_a_stream_has_asked_is_answered_before_the_end(tmp_path: Path) -> None:
    folder = put_compiled(tmp_path / "models", "two")
    with (
        served(folder, http=None, options=slow(200, 1), load=("two",)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_ports[0]}") as channel,
    ):
        stream = Open(channel)
        assert asked(stream) == ""
        for number in range(4):
            stream.send(request(number))
        deadline = time.monotonic() + 20
        while server.service.under_way < 4:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert [next(stream.answers).infer_response.id for _ in range(4)] == ["0", "1", "2", "3"]
        stopper.join(20)
        assert not stopper.is_alive()


def test_mangled_streams(server: Server, channel: Any) -> None:
    """Messages that are cut or have a wrong byte: an answer, an error in the stream, or the stream's status."""
    random_ = random.Random(4)
    raw = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    seen = set()
    for _ in range(500 if os.environ.get("ORT_RKNN_LONG_TESTS") else 100):
        messages = []
        for number in range(random_.randrange(1, 5)):
            content = bytearray(request(number).SerializeToString())
            match random_.randrange(3):
                case 0:
                    content = content[: random_.randrange(len(content))]
                case 1:
                    content[random_.randrange(len(content))] = random_.randrange(256)
            messages.append(bytes(content))
        try:
            for answer in raw(iter(messages), timeout=20):
                read = MESSAGES.ModelStreamInferResponse.FromString(answer)
                seen.add("error" if read.error_message else "answer")
        except grpc.RpcError as error:
            seen.add(error.code().name)
    assert seen == {"answer", "error"}
    deadline = time.monotonic() + 20
    while server.service.under_way:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert asked(Open(channel)) == ""
    begun = time.monotonic()
    assert server.stop() is True  # no stream is left behind
    assert time.monotonic() - begun < 10
