"""Who may call, what is refused before it is read, and bytes that are no request at all."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ort_rknn.errors import InvalidOption
from ort_rknn.serving.security import Listen, Tokens
from ort_rknn.serving.server import Server, ServeSettings
from tests.helpers.serving import FREE, TOKEN, put_models, served, token_file

MESSAGES: Any = service_pb2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = put_models(tmp_path_factory.mktemp("models"), "two", "string")
    (folder.parent / "secret.onnx").write_bytes(b"secret")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with served(folder, most_bytes=1_000_000) as running:
        yield running


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    assert server.http_port is not None
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    try:
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content[:1] == b"{" else content
    finally:
        connection.close()


@pytest.mark.parametrize("place", ["0.0.0.0:8001", "[::]:8001", "192.168.0.5:8001", "board.local:8001"])
def test_others_are_not_let_in_unasked(place: str, folder: Path) -> None:
    with pytest.raises(InvalidOption, match=r"other machines can reach .* give --token-file"):
        Server(ServeSettings(folder, (Listen.parse(place),)))
    with pytest.raises(InvalidOption, match="other machines can reach"):
        Server(ServeSettings(folder, (FREE,), Listen.parse(place)))


def test_insecure_is_a_word(folder: Path) -> None:
    with served(folder, listen=(Listen("0.0.0.0", 0),), insecure=True) as server:
        assert server.grpc_ports[0] > 0


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("8001", True),
        ("unix:/x", True),
        ("a:1", False),
    ],
)
def test_places(text: str, local: bool) -> None:
    assert Listen.parse(text).is_local == local


@pytest.mark.parametrize("text", ["", "a:b", "a:70000", "unix:relative", "unix:/" + "x" * 200, "http://a:1"])
def test_no_places(text: str) -> None:
    with pytest.raises(InvalidOption):
        Listen.parse(text)


def test_token_files(tmp_path: Path) -> None:
    tokens = Tokens.read(token_file(tmp_path))
    assert tokens.open_to(f"Bearer {TOKEN}")
    assert tokens.open_to(f"bearer  {TOKEN} ")
    for wrong in (None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ", "Bearer ü"):
        assert not tokens.open_to(wrong)
    (tmp_path / "short").write_text("short\n")
    (tmp_path / "empty").write_text("\n\n")
    for name in ("short", "empty", "missing"):
        with pytest.raises(InvalidOption, match="token file"):
            Tokens.read(str(tmp_path / name))


def test_without_a_token_only_health_answers(folder: Path, tmp_path: Path) -> None:
    with served(folder, token_file=token_file(tmp_path)) as server:
        assert ask(server, "GET", "/v2/health/live")[0] == 200
        for method, path in (("GET", "/v2"), ("GET", "/metrics"), ("POST", "/v2/models/two/infer")):
            status, body = ask(server, method, path)
            assert (status, "no token" in body["error"]) == (401, True)
        assert ask(server, "GET", "/v2", Authorization=f"Bearer {TOKEN}")[0] == 200
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_ports[0]}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerReady(MESSAGES.ServerReadyRequest(), timeout=10).ready
            huge = MESSAGES.ModelInferRequest(model_name="two", raw_input_contents=[bytes(3_000_000)])
            for call, request in ((stub.ModelInfer, huge), (stub.RepositoryIndex, MESSAGES.RepositoryIndexRequest())):
                with pytest.raises(grpc.RpcError) as refused:
                    call(request, timeout=10)
                assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            shown = (("authorization", f"Bearer {TOKEN}"),)
            assert stub.RepositoryIndex(MESSAGES.RepositoryIndexRequest(), timeout=10, metadata=shown).models


@pytest.mark.parametrize("name", ["../secret", "..%2Fsecret", "%2e%2e%2fsecret.onnx", "/etc/passwd", "two%00", ".", ""])
def test_a_models_name_is_no_path(name: str, server: Server) -> None:
    assert ask(server, "GET", f"/v2/models/{name}/config")[0] == 404
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_ports[0]}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.RepositoryModelLoad(MESSAGES.RepositoryModelLoadRequest(model_name="../secret"), timeout=10)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_sizes_are_checked_before_memory_is_taken(server: Server) -> None:
    assert ask(server, "POST", "/v2/models/two/infer", Content_Length=str(10**12))[0] == 413
    assert ask(server, "POST", "/v2/repository/index", b"x" * 100_000)[0] == 413
    assert ask(server, "POST", "/v2/models/two/infer", Content_Length="-1")[0] == 400
    assert ask(server, "POST", "/v2/models/two/infer", Transfer_Encoding="gzip")[0] == 501
    claims = {"name": "A", "datatype": "FP32", "shape": [2**39], "data": [1]}
    status, body = ask(server, "POST", "/v2/models/two/infer", json.dumps({"inputs": [claims]}).encode())
    assert (status, body["error"]) == (400, f"input 'A': 1 values do not fill shape [{2**39}]")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_ports[0]}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(MESSAGES.ModelInferRequest(raw_input_contents=[bytes(2_000_000)]), timeout=10)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        (b'7;x=y\r\n{"input\r\n5\r\ns":[]\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n', 400),  # read, then: no inputs
        (b"fffffff\r\n", 413),
        (b"10\r\n" + bytes(16) + b"\r\nfffff\r\n", 413),
        (b"-1\r\n", 400),
        (b"0x10\r\n", 400),
        (b"\r\n", 400),
        (b"2\r\n{}{}\r\n", 400),
        (b"1" * 2000, 400),
        (b"0\r\n" + b"a: b\r\n" * 20, 400),
    ],
)
def test_chunks_have_the_same_bound(chunks: bytes, status: int, server: Server) -> None:
    assert server.http_port is not None
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as line:
        line.sendall(b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert int(line.recv(100).split()[1]) == status
    assert server.service.under_way == 0


def test_chunks_and_a_length_are_not_both_taken(server: Server) -> None:
    status, body = ask(server, "POST", "/v2/models/two/infer", b"{}", Transfer_Encoding="chunked", Content_Length="2")
    assert (status, "not both" in body["error"]) == (400, True)


def test_a_request_that_is_cut_takes_no_place(server: Server) -> None:
    assert server.http_port is not None
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.http_port)) as line:
            line.sendall(b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    deadline = time.monotonic() + 10
    while server.service.under_way and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.service.under_way == 0


def _request(random_: random.Random) -> Any:
    array = np.ones((3, 2), np.float32)
    request = MESSAGES.ModelInferRequest(model_name="two")
    for name in "AB":
        request.inputs.add(name=name, datatype="FP32", shape=[3, 2])
        request.raw_input_contents.append(array.tobytes())
    choice = random_.randrange(9)
    tensor = request.inputs[random_.randrange(2)]
    if choice == 0:
        tensor.shape[:] = [random_.randrange(-5, 2**62) for _ in range(random_.randrange(5))]
    elif choice == 1:
        tensor.datatype = random_.choice(["", "BYTES", "FP16", "fp32", "INT64", "X" * 1000])
    elif choice == 2:
        request.raw_input_contents[0] = random_.randbytes(random_.randrange(100))
    elif choice == 3:
        tensor.name = random_.choice(["", "A", "B", "\0", "Ω" * 500])
    elif choice == 4:
        del request.raw_input_contents[:]
        tensor.contents.fp32_contents.extend([1.0] * random_.randrange(9))
    elif choice == 5:
        request.model_name = random_.choice(["", "../two", "string", "two.onnx.onnx", "a/b", "\n"])
    elif choice == 6:
        request.outputs.add(name=random_.choice(["", "Y", "nope"]))
    elif choice == 7:
        request.parameters["priority"].string_param = random_.choice(["", "high", "x"])
        request.parameters["timeout"].int64_param = random_.choice([-1, 0, 10**8, 2**63 - 1])
    else:
        request.model_version = random_.choice(["1", "2", "-1", "x"])
    return request


CODES = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL", "UNIMPLEMENTED"}


def test_mangled_requests_over_grpc(server: Server) -> None:
    """Messages with one thing wrong, or cut bytes: each is answered or refused by a status, and the server lives."""
    random_ = random.Random(0)
    seen = set()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_ports[0]}") as channel:
        raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for number in range(5_000 if os.environ.get("ORT_RKNN_LONG_TESTS") else 1_000):
            content = bytearray(_request(random_).SerializeToString())
            if number % 3 == 0:
                content = content[: random_.randrange(len(content))]
            elif number % 3 == 1:
                content[random_.randrange(len(content))] = random_.randrange(256)
            try:
                raw(bytes(content), timeout=20)
                seen.add("OK")
            except grpc.RpcError as error:
                seen.add(error.code().name)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(MESSAGES.ServerReadyRequest(), timeout=10).ready
    assert seen <= CODES
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= seen
    assert server.service.under_way == 0


def test_mangled_requests_over_http(server: Server) -> None:
    random_ = random.Random(1)
    good = {
        "inputs": [{"name": name, "datatype": "FP32", "shape": [3, 2], "data": [1.0] * 6} for name in "AB"],
        "outputs": [{"name": "Y", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(good)
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port or 0, timeout=20)
    seen = set()
    swaps = ["null", "-1", "true", '"x"', "[]", "{}", "1e999", "[[[[1]]]]", "9" * 400, "[" * 50]
    for number in range(5_000 if os.environ.get("ORT_RKNN_LONG_TESTS") else 1_000):
        at = random_.randrange(len(text))
        body = [
            text[:at],
            text[:at] + random_.choice(swaps) + text[at:],
            text.replace(random_.choice(['"A"', '"FP32"', "[3, 2]", "1.0", "true", "{"]), random_.choice(swaps), 1),
            text[:at] + chr(random_.randrange(0x2FF)) + text[at + 1 :],
        ][number % 4].encode()
        head = {"Inference-Header-Content-Length": str(random_.randrange(len(text)))} if number % 7 == 0 else {}
        connection.request("POST", "/v2/models/two/infer", body, head)
        answer = connection.getresponse()
        content = answer.read()
        seen.add(answer.status)
        if answer.status != 200:
            assert json.loads(content)["error"]
    connection.close()
    assert seen <= {200, 400, 404, 500}
    assert {200, 400} <= seen
    assert server.service.under_way == 0


def test_bytes_that_are_no_http(server: Server) -> None:
    assert server.http_port is not None
    random_ = random.Random(2)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as line:
            line.sendall(random_.randbytes(random_.randrange(1, 300)) + b"\r\n\r\n")
    assert ask(server, "GET", "/v2/health/live")[0] == 200
