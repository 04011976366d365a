"""Requests of HTTP in their odd forms: packed, without a length, with two, asked about before they are sent."""

from __future__ import annotations

import gzip
import json
import re
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

import ort_rknn
from ort_rknn.remote.tensors import TensorError
from ort_rknn.serving.http_messages import call_of_json
from ort_rknn.serving.server import Server
from tests.helpers.ort_models import model
from tests.helpers.serving import put_models, served

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
BODY = json.dumps({"inputs": [{"name": n, "datatype": "FP32", "shape": [3, 2], "data": A.tolist()} for n in "AB"]})
INFER = "/v2/models/two/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(put_models(tmp_path_factory.mktemp("models"), "two"), most_bytes=1 << 20) as running:
        yield running


@pytest.fixture(scope="module")
def wanted() -> dict[str, np.ndarray[Any, Any]]:
    with ort_rknn.InferenceSession(model("two"), providers=["CPUExecutionProvider"]) as session:
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {"A": A, "B": A}), strict=True))


def said(server: Server, *pieces: bytes) -> tuple[list[int], bytes, bool]:
    """The statuses that the server answers with, all its bytes, and whether it closed the connection."""
    assert server.http_port is not None
    content = b""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as line:
        for piece in pieces:
            line.sendall(piece)
        # a question behind the last request is answered unless the connection is closed
        line.sendall(b"GET /v2/health/live HTTP/1.1\r\nConnection: close\r\n\r\n")
        try:
            while got := line.recv(1 << 16):
                content += got
        except ConnectionResetError:  # closed with bytes of the client's unread
            pass
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", content)]
    return statuses, content, len(statuses) < 2


def post(body: bytes, *headers: str, path: str = INFER, length: bool = True) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_tritonclient_packs_its_requests(how: str, server: Server, wanted: dict[str, np.ndarray[Any, Any]]) -> None:
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.http_port}") as client:
        for binary in (True, False):
            inputs = [tritonclient.http.InferInput(name, [3, 2], "FP32") for name in "AB"]
            for one in inputs:
                one.set_data_from_numpy(A, binary_data=binary)
            answer = client.infer("two", inputs, request_compression_algorithm=how, response_compression_algorithm=how)
            for name, array in wanted.items():
                assert answer.as_numpy(name).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("encoding", "body", "status", "why"),
    [
        ("gzip", gzip.compress(bytes(50 << 20)), 413, "more than 1048576"),  # 50 kB that are 50 MB
        ("deflate", zlib.compress(bytes(50 << 20)), 413, "more than 1048576"),
        ("gzip", gzip.compress(BODY.encode())[:-9], 400, "ends early"),
        ("gzip", gzip.compress(BODY.encode()) + b"more", 400, "bytes behind its end"),
        ("gzip", BODY.encode(), 400, "no gzip"),
        ("gzip", b"", 400, "ends early"),
        ("br", BODY.encode(), 501, "gzip, x-gzip, deflate"),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY.encode())), 501, "gzip, x-gzip, deflate"),
        ("X-GZip", gzip.compress(BODY.encode()), 200, "outputs"),
        ("identity", BODY.encode(), 200, "outputs"),
    ],
)
def test_packed_requests(encoding: str, body: bytes, status: int, why: str, server: Server) -> None:
    statuses, content, _ = said(server, post(body, f"Content-Encoding: {encoding}"))
    assert statuses[0] == status
    assert why in content.decode()
    assert server.service.under_way == 0


@pytest.mark.parametrize(
    ("request_", "status", "closed"),
    [
        (post(BODY.encode()), 200, False),
        (post(BODY.encode(), length=False), 411, True),
        (post(b"", length=False), 411, True),
        (
            post(BODY.encode(), "Content-Length: 5"),
            400,
            True,
        ),  # a proxy may read the other one
        (post(BODY.encode(), f"Content-Length: {len(BODY)}"), 200, False),
        (post(BODY.encode(), "Content-Length: +5", length=False), 400, True),
        (post(BODY.encode(), "Content-Length: 5, 5", length=False), 400, True),
        (post(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: gzip, chunked", length=False), 501, True),
        (post(b"", "Expect: 100-continue", "Content-Length: 99999999999", length=False), 413, True),
        (post(b"", "Expect: 100-continue", "Content-Length: x", length=False), 400, True),
        (post(BODY.encode(), "Inference-Header-Content-Length: " + "9" * 5000), 400, False),
        (b"PUT /v2 HTTP/1.1\r\n\r\n", 501, True),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431, True),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414, True),
    ],
)
def test_forms_of_requests(request_: bytes, status: int, closed: bool, server: Server) -> None:
    statuses, content, was_closed = said(server, request_)
    assert (statuses[0], was_closed) == (status, closed)
    if status != 200:
        error = json.loads(content.split(b"\r\n\r\n")[1].partition(b"}")[0] + b"}")["error"]
        assert isinstance(error, str)
        assert error


def test_chunks_by_any_name(server: Server) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY.encode())
    assert said(server, post(body, "Transfer-Encoding: Chunked", length=False))[0] == [200, 200]


def test_the_head_alone(server: Server) -> None:
    for path in ("/v2/health/ready", "/v2/models/two", "/nothing"):
        assert server.http_port is not None
        heads = []
        for method in ("GET", "HEAD"):
            with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as line:
                line.sendall(f"{method} {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
                content = b"".join(iter(lambda line=line: line.recv(1 << 16), b""))  # type: ignore[misc]
            head, _, body = content.partition(b"\r\n\r\n")
            heads.append([row for row in head.split(b"\r\n") if not row.startswith(b"Date")])
        assert heads[0] == heads[1]
        assert body == b""


@pytest.mark.parametrize("timeout", ["9" * 5000, 1.5, -1, "-1", True, "1e3", None, []])
def test_a_timeout_that_is_none(timeout: Any, server: Server) -> None:
    body = json.dumps({**json.loads(BODY), "parameters": {"timeout": timeout}}).encode()
    statuses, content, _ = said(server, post(body))
    assert statuses[0] == 400
    assert b"whole number of microseconds" in content


@pytest.mark.parametrize("timeout", [10**400, 2**63 - 1, "18446744073709551615", 0, "0"])
def test_a_timeout_that_is_long(timeout: Any, server: Server) -> None:
    body = json.dumps({**json.loads(BODY), "parameters": {"timeout": timeout}}).encode()
    assert said(server, post(body))[0][0] == 200


@pytest.mark.parametrize(
    ("datatype", "values", "wanted"),
    [
        ("FP16", [0.1, -65504], [0.0999755859375, -65504.0]),
        ("FP16", [65520, 1], "'x': a value does not fit FP16"),
        ("FP16", [float("inf"), float("nan")], [float("inf"), float("nan")]),
        ("FP32", [-1e39, 1], "'x': a value does not fit FP32"),
        ("FP32", [1e-60, float("-inf")], [0.0, float("-inf")]),
        ("FP64", [1e308, 10**308], [1e308, 1e308]),
        ("FP64", [10**309, 1], "'x': a value does not fit FP64"),
        ("INT8", [128, 1], "'x': a value does not fit INT8"),
        ("UINT64", [2**64 - 1, 0], [2**64 - 1, 0]),
        ("INT64", [2**63, 0], "'x': a value does not fit INT64"),
    ],
)
def test_numbers_that_fit_their_type_and_no_others(datatype: str, values: list[Any], wanted: Any) -> None:
    head = {"inputs": [{"name": "x", "datatype": datatype, "shape": [2], "data": values}]}
    if isinstance(wanted, str):
        with pytest.raises(TensorError, match=wanted):
            call_of_json("m", "", json.dumps(head).encode(), memoryview(b""))
    else:
        _, inputs, _ = call_of_json("m", "", json.dumps(head).encode(), memoryview(b""))
        np.testing.assert_array_equal(inputs["x"], np.array(wanted, inputs["x"].dtype))
        assert tritonclient.utils.np_to_triton_dtype(inputs["x"].dtype) == datatype


def test_a_refusal_is_the_clients_exception(server: Server) -> None:
    with (
        tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.http_port}") as client,
        pytest.raises(InferenceServerException, match="no model 'nope'"),
    ):
        client.get_model_metadata("nope")
