"""Readers of what other programs send or publish: requests, answers, pages, lists of files, options as text."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.fuzz.reader import Reader

__all__ = ["wire_readers"]

_EMPTY = hashlib.sha256().hexdigest()


def _http(data: bytes, _: Path) -> None:
    from ort_rknn.serving.http_messages import answer_parts, call_of_json
    from ort_rknn.serving.model import Outputs

    head, _, binary = data.partition(b"\n\n")
    *_, request = call_of_json("m", "1", head, memoryview(binary))
    answer_parts(request, Outputs("m", ("y",), ("FP32",), ["y"]), [np.zeros(2, np.float32)])


def _http_request(data: bytes, _: Path) -> None:
    """A whole request on its socket: path, headers and body."""
    import socket
    from types import SimpleNamespace

    from ort_rknn.remote.failures import Refusal
    from ort_rknn.serving.http_front import _Handler

    def refuse(*_: Any, **__: Any) -> Any:
        raise Refusal("NOT_FOUND", "there are no models here")

    models = SimpleNamespace(find=refuse, use=refuse, is_ready=lambda *_: False, index=list, load=refuse, unload=refuse)
    service = SimpleNamespace(repository=models, ready=True, draining=False, load_limit=1.0)
    server: Any = SimpleNamespace(
        service=service, tokens=SimpleNamespace(open_to=lambda _: True), most_bytes=1 << 20, metrics=None
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        theirs.sendall(data[:60_000])
        theirs.shutdown(socket.SHUT_WR)
        type("_OnAnySocket", (_Handler,), {"disable_nagle_algorithm": False})(ours, ("127.0.0.1", 1), server)


def _grpc(data: bytes, _: Path) -> None:
    from tritonclient.grpc import service_pb2

    from ort_rknn.remote.tensors import TensorError
    from ort_rknn.serving.protobufs import Requests, inputs_of

    requests = Requests(service_pb2)
    for _ in range(3):  # the second time its head is known, the third time all around its tensors
        asked = requests.read_or_say(data)
        if isinstance(asked, TensorError):
            raise asked
        message = service_pb2.ModelInferRequest.FromString(data)
        assert (asked.head.id, asked.head.call.model) == (message.id, message.model_name)
        assert [bytes(raw) for raw in asked.raw] == list(message.raw_input_contents)
    inputs_of(asked)


def _grpc_answer(data: bytes, _: Path) -> None:
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    from ort_rknn.remote.tensors import decode
    from ort_rknn.remote.wire import cut, field_number

    kind = service_pb2.ModelInferResponse
    parts = cut(data, field_number(kind, "raw_output_contents"))  # as for large messages
    if parts is None:
        return
    try:
        outputs = kind.FromString(parts[0]).outputs
    except DecodeError:  # gRPC says INTERNAL
        return
    for one, (begun, end) in zip(outputs, parts[1], strict=False):
        decode(one.name, one.datatype, tuple(one.shape), memoryview(data)[begun:end])


class _Transport:
    """A server's answers, without a server."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def config(self, timeout: float) -> Any:
        from ort_rknn_converters.util.plain_data import parse_json

        return parse_json(self._config)

    def infer(self, *_: Any) -> Any:
        return {}

    def close(self) -> None:
        """Nothing is held."""


def _server(data: bytes, _: Path) -> None:
    from ort_rknn.remote import model
    from ort_rknn.remote.address import Address
    from ort_rknn.remote.engine import remote_plan

    connect, model.connect = model.connect, lambda _: _Transport(data)  # type: ignore[assignment,return-value]
    try:
        found = model.RemoteModel(Address.parse("http://127.0.0.1:1/m"), 1.0)
    finally:
        model.connect = connect
    found.made_stub()
    remote_plan(found)


def _page(data: bytes, folder: Path) -> None:
    from ort_rknn.top.readings import _read, row

    (folder / "1-1.session").write_bytes(data)
    if (reading := _read(folder / "1-1.session")) is not None:
        assert hash(reading.key)
        row(reading, None)


def _toolkit(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.toolkit.setup.environment import marker

    before = os.environ.get("ORT_RKNN_CACHE_DIR")
    os.environ["ORT_RKNN_CACHE_DIR"] = str(folder)
    try:
        (folder / "toolkit").mkdir(exist_ok=True)
        (folder / "toolkit" / "toolkit.json").write_bytes(data)
        marker()
    finally:
        os.environ.pop("ORT_RKNN_CACHE_DIR")
        if before is not None:
            os.environ["ORT_RKNN_CACHE_DIR"] = before


def _wheels(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.toolkit.setup.wheelhouse import LIST, read_wheelhouse

    (folder / LIST).write_bytes(data)
    (folder / "a.whl").write_bytes(b"")
    read_wheelhouse(folder, toolkit="2.5.0")


def _board_test(data: bytes, folder: Path) -> None:
    from ort_rknn_conformance.hardware.report_file import ReportFile

    (folder / "board.json").write_bytes(data)
    report = ReportFile(folder / "board.json", {"where": "hardware", "target": "rk3588", "runs": 5}, resume=True)
    _ = report.done, report.trials


def _samples(name: str) -> Any:
    def read(data: bytes, folder: Path) -> None:
        from ort_rknn_converters.quantize.calibration import Calibration, InputSpec

        (folder / name).write_bytes(data)
        np.save(folder / "x.npy", np.zeros((1, 3, 4, 4), np.float32))
        data_set = Calibration(str(folder / name))
        data_set.digest()
        data_set.samples([InputSpec("x", np.dtype(np.float32), (1, 3, 4, 4))])

    return read


def _labels(data: bytes, folder: Path) -> None:
    from ort_rknn_conformance.sources.labels import read_labels

    (folder / "labels.txt").write_bytes(data)
    read_labels(str(folder / "labels.txt"), [Path("a.png"), Path("b.png")])


def _option_texts(data: bytes, _: Path) -> None:
    from ort_rknn.options.table import RknnOptions

    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").split("\n"))
    options = RknnOptions.parse({name: value for name, _, value in pairs if name})
    options.as_strings()


def _values(data: bytes, _: Path) -> None:
    from ort_rknn_converters.pinned_values import pinned_array, pinned_text

    pinned_array(pinned_text("x", data.decode("utf-8", "replace")), np.dtype(np.float32))


def _external(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.cache.key import content_digest
    from ort_rknn_converters.graph import onnx_graph
    from ort_rknn_converters.graph.validate import validate_and_sort

    (folder / "model.onnx").write_bytes(data)
    (folder / "w.bin").write_bytes(bytes(64))
    content_digest(folder / "model.onnx")
    validate_and_sort(onnx_graph.load(folder / "model.onnx"))


def _external_seed() -> bytes:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "16"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    edges = [value("x", TensorProto.FLOAT, [1, 4])], [value("y", TensorProto.FLOAT, [1, 4])]
    graph = helper.make_graph(nodes, "g", *edges, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _images() -> Iterator[tuple[str, bytes]]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    for suffix in ("png", "jpeg", "bmp", "webp"):
        room = io.BytesIO()
        Image.fromarray(pixels).save(room, suffix)
        yield f"a.{suffix}", room.getvalue()


def _grpc_seed() -> tuple[bytes, bytes]:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1.0, 2.0])
    request.inputs.add(name="s", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"text")
    request.parameters["timeout"].int64_param = 5
    raw = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[bytes(8)])
    raw.inputs.add(name="x", datatype="FP32", shape=[2])
    raw.outputs.add(name="y").parameters["binary_data"].bool_param = True
    return bytes(request.SerializeToString()), bytes(raw.SerializeToString())


def _grpc_answer_seed() -> bytes:
    from tritonclient.grpc import service_pb2

    answer = service_pb2.ModelInferResponse(model_name="m", raw_output_contents=[bytes(8), b"\4\0\0\0text"])
    answer.outputs.add(name="y", datatype="FP32", shape=[2])
    answer.outputs.add(name="s", datatype="BYTES", shape=[1])
    return bytes(answer.SerializeToString())


def _text(value: object) -> bytes:
    return json.dumps(value).encode()


def _server_seeds() -> tuple[bytes, bytes]:
    from ort_rknn.remote.outside import Argument, Outside, pack
    from ort_rknn_converters.partition.plan import Plan

    edge = (Argument("x", "tensor(float)", (1, "n", None)),)
    outside = Outside(edge, edge, (), {"version": 1}, {"a": "b"}, ("CPUExecutionProvider",), Plan("t", "").to_dict())
    said = {
        "ort_rknn.outside": {"string_value": json.dumps(outside.to_dict())},
        "ort_rknn.stub": {"string_value": pack(_external_seed())},
        "ort_rknn.places": {"string_value": "4"},
    }
    rows = [{"name": "x", "data_type": "TYPE_FP32", "dims": [1, -1]}]
    return _text({"parameters": said}), _text({"input": rows, "output": rows})


def wire_readers() -> Iterator[Reader]:
    """Yields each with its seeds."""
    from ort_rknn.accounting.published import COUNTERS, HEADER
    from ort_rknn.remote.failures import Refusal
    from ort_rknn.remote.tensors import TensorError
    from ort_rknn_conformance.case import CaseError
    from ort_rknn_converters.toolkit.setup.wheelhouse import _FORMAT

    listed = {"name": "x", "datatype": "FP32", "shape": [2], "data": [[1], 2.5]}
    raw = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    strings = {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["text"]}
    heads = (_text({"id": "1", "inputs": [listed, strings], "outputs": [{"name": "y"}]}), _text({"inputs": [raw]}))
    yield Reader("HTTP: inference", _http, (heads[0], heads[1] + b"\n\n" + bytes(8)), (TensorError, Refusal))
    requests = (
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
        b'POST /v2/repository/models/m/load HTTP/1.1\r\nContent-Length: 17\r\n\r\n{"parameters": 1}',
        b"GET /v2/models/m/versions/1/config HTTP/1.1\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n",
        b'POST /v2/repository/index HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n{"ready": true}',
        b'POST /v2/repository/index HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{"ready": true}\r\n0\r\n\r\n',
        b"POST /v2/repository/index HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 35\r\n\r\n"
        + gzip.compress(b'{"ready": true}', mtime=0),
    )
    yield Reader("HTTP: request", _http_request, requests, (ConnectionError, TimeoutError))
    yield Reader("gRPC: inference", _grpc, _grpc_seed(), (TensorError, Refusal))
    yield Reader("gRPC: answer", _grpc_answer, (_grpc_answer_seed(),), (TensorError,))
    yield Reader("answer of a server", _server, _server_seeds())
    facts = {"pid": 1, "started": 5, "namespace": "pid:[1]", "program": "p", "session": 1, "opened": 1.0, "model": "m"}
    page = _text({**facts, "cores": [0, 1]}).ljust(HEADER) + struct.pack(f"={len(COUNTERS)}q", *range(len(COUNTERS)))
    yield Reader("page of a session", _page, (page,))
    yield Reader("toolkit.json", _toolkit, (_text({"version": "2.5.0", "python": "3.11", "requirements": ["a==1"]}),))
    wheels = {"format": _FORMAT, "toolkit": "2.5.0", "python": "3.11", "machine": "x86_64", "requirements": []}
    yield Reader("folder of wheels", _wheels, (_text({**wheels, "sha256": {"a.whl": _EMPTY}}),))
    trial = {"group": "models", "name": "a", "ok": True, "said": "right", "rel_rms": 0.1}
    report = {"format": 2, "where": "hardware", "target": "rk3588", "runs": 5, "complete": False, "trials": [trial]}
    yield Reader("report of board-test", _board_test, (_text(report),), (ValueError, OSError))
    yield Reader("calibration: list", _samples("list.txt"), (b"x.npy\nx.npy\n\nx.npy\n",))
    for name, content in _images():
        yield Reader(f"calibration: {name}", _samples(name), (content,))
    yield Reader("labels", _labels, (b"1\n2\n", b"a.png 1\nb.png, 2\n"), (CaseError,))
    options = (
        b"target=rk3588\nschedule=0,1,2\nshapes=x=1x3x4x4;y=1x8\nvalues=r=[1.5]\nmin_gain=0.5",
        b"dims=n=1;m=2\ntp_mode=0,1\nprecision=fp16\npreprocess=4x4,mean=0,std=255\ncpu_ops=Relu,Add\nreserve=1",
    )
    yield Reader("provider options", _option_texts, options)
    yield Reader("pinned value", _values, (b"[[1, 2], [3.5, 4]]", b"true"))
    yield Reader("external data", _external, (_external_seed(),))
    assert onnx  # its classes are read above
