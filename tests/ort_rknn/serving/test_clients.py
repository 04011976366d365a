"""Clients that know nothing of this package: tritonclient over gRPC and HTTP, curl.

Their answers are bit-equal to those of a session here.
"""

from __future__ import annotations

import ast
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

import ort_rknn
from ort_rknn.serving.server import Server
from tests.helpers.ort_models import model
from tests.helpers.serving import put_models, served

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
NAMES = ("two", "dynamic", "string", "half", "int64", "int8", "bool", "double", "mixed", "scalar", "sequence")
FEEDS: dict[str, dict[str, Any]] = {
    "two": {"A": A, "B": -A},
    "dynamic": {"X": np.arange(14, dtype=np.float32).reshape(7, 2)},
    "half": {"X": np.array([0.1, -65504], np.float16)},
    "int64": {"X": np.array([2**63 - 1, -(2**63)], np.int64)},
    "int8": {"X": np.array([-128, 127], np.int8)},
    "bool": {"X": np.array([True, False])},
    "double": {"X": np.array([1e300, -0.0])},
    "string": {"X": np.array(["grüße", ""], object)},
    "mixed": {"X": np.arange(-16, 16, dtype=np.float32).reshape(1, 2, 4, 4)},
}
BIG = 25_000_000
METADATA = {"stride": "32", "names": "{0: 'person', 1: 'bicycle'}", "imgsz": "[640, 640]"}


def big() -> bytes:
    """A model with 25 MB in and out."""
    value = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, METADATA)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = put_models(tmp_path_factory.mktemp("models"), *NAMES)
    (folder / "big.onnx").write_bytes(big())
    with served(folder) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def triton(request: pytest.FixtureRequest, server: Server) -> Iterator[tuple[Any, Any]]:
    module = getattr(tritonclient, request.param)
    port = server.grpc_ports[0] if request.param == "grpc" else server.http_port
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    yield module, client
    client.close()


def inputs(module: Any, feed: dict[str, np.ndarray[Any, Any]], **how: Any) -> list[Any]:
    made = []
    for name, array in feed.items():
        text = "BYTES" if array.dtype == object else tritonclient.utils.np_to_triton_dtype(array.dtype)
        made.append(module.InferInput(name, list(array.shape), text))
        made[-1].set_data_from_numpy(array, **how)
    return made


def local(name: str, feed: dict[str, Any]) -> dict[str, Any]:
    with ort_rknn.InferenceSession(model(name), providers=["CPUExecutionProvider"]) as session:
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, feed), strict=True))


def check(answer: Any, wanted: dict[str, Any]) -> None:
    for name, array in wanted.items():
        got = answer.as_numpy(name)
        if array.dtype == object:
            got = np.array([value.decode() for value in got.reshape(-1)], object).reshape(got.shape)
            assert got.tolist() == array.tolist()
        else:
            assert (got.dtype, got.shape, got.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("name", FEEDS)
def test_tritonclient_gets_the_sessions_answer(name: str, triton: tuple[Any, Any]) -> None:
    module, client = triton
    wanted = local(name, FEEDS[name])
    check(client.infer(name, inputs(module, FEEDS[name])), wanted)
    asked = [module.InferRequestedOutput(output) for output in reversed(wanted)]
    answer = client.infer(name, inputs(module, FEEDS[name]), outputs=asked, request_id="r1", timeout=5_000_000)
    check(answer, wanted)
    response = answer.get_response()
    assert (response.id if module is tritonclient.grpc else response["id"]) == "r1"


@pytest.mark.parametrize("name", sorted(FEEDS.keys() - {"half"}))
def test_json_gets_the_sessions_answer(name: str, server: Server) -> None:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    feed, wanted = FEEDS[name], local(name, FEEDS[name])
    asked = [tritonclient.http.InferRequestedOutput(output, binary_data=False) for output in wanted]
    answer = client.infer(name, inputs(tritonclient.http, feed, binary_data=False), outputs=asked)
    for output, array in wanted.items():
        got = answer.as_numpy(output)
        assert np.array_equal(got.astype(array.dtype), array)
        assert got.shape == array.shape
    client.close()


def test_typed_contents_of_grpc(server: Server) -> None:
    from tritonclient.grpc import service_pb2

    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_ports[0]}")
    request = service_pb2.ModelInferRequest(model_name="two")
    for name in ("A", "B"):
        tensor = request.inputs.add(name=name, datatype="FP32", shape=[3, 2])
        tensor.contents.fp32_contents.extend(A.reshape(-1).tolist())
    answer = client._client_stub.ModelInfer(request)
    assert answer.raw_output_contents[1] == local("two", {"A": A, "B": A})["K"].tobytes()
    client.close()


def test_25_megabytes(triton: tuple[Any, Any]) -> None:
    module, client = triton
    array = np.random.default_rng(0).integers(0, 256, BIG, np.uint8)
    assert np.array_equal(client.infer("big", inputs(module, {"x": array})).as_numpy("y"), array)


def test_questions(triton: tuple[Any, Any]) -> None:
    module, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("dynamic")
    as_json = {} if module is tritonclient.http else {"as_json": True}
    metadata = client.get_model_metadata("dynamic", **as_json)
    assert metadata["inputs"][0]["datatype"] == "FP32"
    assert [int(dim) for dim in metadata["inputs"][0]["shape"]] == [-1, 2]
    assert client.get_server_metadata(**as_json)["name"] == "ort_rknn"
    config = client.get_model_config("dynamic", **as_json)
    config = config.get("config", config)
    assert (config["name"], config["input"][0]["data_type"]) == ("dynamic", "TYPE_FP32")
    before = int(_stats(client, as_json)["inference_count"])
    client.infer("dynamic", inputs(module, FEEDS["dynamic"]))
    after = _stats(client, as_json)
    assert int(after["inference_count"]) == before + 1
    assert int(after["inference_stats"]["success"]["ns"]) > 0


def _stats(client: Any, as_json: dict[str, Any]) -> Any:
    client.load_model("dynamic")
    stats = client.get_inference_statistics("dynamic", **as_json)["model_stats"][0]
    return {"inference_count": 0, **stats}


def test_repository(triton: tuple[Any, Any]) -> None:
    module, client = triton
    as_json = {} if module is tritonclient.http else {"as_json": True}

    def states() -> dict[str, str]:
        rows = client.get_model_repository_index(**as_json)
        return (
            {row["name"]: row["state"] for row in rows.get("models", []) if row}
            if isinstance(rows, dict)
            else {row["name"]: row["state"] for row in rows}
        )

    client.load_model("scalar")
    assert states()["scalar"] == "READY"
    client.unload_model("scalar")
    assert states()["scalar"] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="there is no model 'nope'"):
        client.load_model("nope")
    with pytest.raises(InferenceServerException, match="a load takes no config"):
        client.load_model("scalar", config="{}")


def streamed(server: Server, feeds: list[tuple[str, dict[str, Any]]], **more: Any) -> list[tuple[Any, Any]]:
    """Answers of one stream, in the order they came."""
    found: list[tuple[Any, Any]] = []
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_ports[0]}") as client:
        client.start_stream(lambda result, error: found.append((result, error)))
        for number, (name, feed) in enumerate(feeds):
            client.async_stream_infer(name, inputs(tritonclient.grpc, feed), request_id=str(number), **more)
        client.stop_stream()  # waits for all answers
    return found


def test_a_stream_answers_in_order(server: Server) -> None:
    names = [*FEEDS] * 30  # more than the server has places: it reads more slowly, and refuses nothing
    found = streamed(server, [(name, FEEDS[name]) for name in names])
    assert [error for _, error in found] == [None] * len(names)
    assert [result.get_response().id for result, _ in found] == [str(number) for number in range(len(names))]
    for name in FEEDS:
        check(found[len(names) - len(FEEDS) + names.index(name)][0], local(name, FEEDS[name]))
    assert server.service.under_way == 0


def test_errors_stand_in_the_stream(server: Server) -> None:
    wrong = {"A": np.zeros(3, np.float32), "B": A}
    found = streamed(server, [("two", FEEDS["two"]), ("nope", {}), ("two", wrong), ("two", FEEDS["two"])])
    assert [error is None for _, error in found] == [True, False, False, True]
    assert "there is no model 'nope'" in found[1][1].message()
    assert "Invalid rank for input: A" in found[2][1].message()
    check(found[3][0], local("two", FEEDS["two"]))


def test_a_stream_of_large_tensors(server: Server) -> None:
    arrays = [np.full(1_000_003, number, np.uint8) for number in range(5)]
    found = streamed(server, [("big", {"x": array}) for array in arrays], enable_empty_final_response=True)
    assert [result.as_numpy("y").tobytes() == array.tobytes() for (result, _), array in zip(found, arrays, strict=True)]
    assert found[0][0].get_response().parameters["triton_final_response"].bool_param is True


def test_a_stream_that_is_left_gives_its_places_back(server: Server) -> None:
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_ports[0]}")
    client.start_stream(lambda result, error: None)
    for _ in range(200):
        client.async_stream_infer("big", inputs(tritonclient.grpc, {"x": np.zeros(100_000, np.uint8)}))
    client.stop_stream(cancel_requests=True)
    client.close()
    deadline = time.monotonic() + 10
    while server.service.under_way and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.service.under_way == 0


def test_what_the_protocol_cannot_carry_is_refused(triton: tuple[Any, Any]) -> None:
    module, client = triton
    with pytest.raises(InferenceServerException, match="only tensors of numbers and strings can be sent"):
        client.infer("sequence", inputs(module, {"X": A}))


def test_parameters(triton: tuple[Any, Any]) -> None:
    module, client = triton
    feed = inputs(module, FEEDS["two"])
    for priority in (1, 3):
        check(client.infer("two", feed, priority=priority), local("two", FEEDS["two"]))
    with pytest.raises(InferenceServerException, match="the parameter priority is high, normal, low"):
        client.infer("two", feed, priority=9)


def test_the_config_has_the_models_own_metadata(triton: tuple[Any, Any]) -> None:
    """Ultralytics' clients read it there, as the text of a dictionary (the package itself: test_ultralytics.py)."""
    module, client = triton
    as_json = {} if module is tritonclient.http else {"as_json": True}
    config = client.get_model_config("big", **as_json)
    metadata = ast.literal_eval(config.get("config", config)["parameters"]["metadata"]["string_value"])
    assert metadata == METADATA
    assert ast.literal_eval(metadata["names"]) == {0: "person", 1: "bicycle"}


def curl(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        ["curl", "-s", "-w", "\n%{http_code}", *arguments], capture_output=True, text=True, timeout=30, check=True
    )
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


def test_curl(server: Server, tmp_path: Path) -> None:
    base = f"http://127.0.0.1:{server.http_port}/v2"
    assert curl(f"{base}/health/ready") == (200, "")
    rows = [{"name": name, "datatype": "FP32", "shape": [3, 2], "data": A.tolist()} for name in ("A", "B")]
    code, body = curl("-d", json.dumps({"inputs": rows, "outputs": [{"name": "K"}]}), f"{base}/models/two/infer")
    assert code == 200
    assert json.loads(body)["outputs"] == [
        {"name": "K", "datatype": "FP32", "shape": [3, 2], "data": [-1.0, 8.0, 7.0, -6.0, -1.0, 28.0]}
    ]
    large = tmp_path / "large"  # curl asks before it sends so much
    large.write_text(
        json.dumps({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [999_999], "data": [7] * 999_999}]})
    )
    code, body = curl("-d", f"@{large}", f"{base}/models/big/infer")
    assert (code, json.loads(body)["outputs"][0]["data"] == [7] * 999_999) == (200, True)
    code, body = curl("-T", str(large), "-X", "POST", "-H", "Transfer-Encoding: chunked", f"{base}/models/big/infer")
    assert (code, json.loads(body)["outputs"][0]["data"] == [7] * 999_999) == (200, True)
    assert curl(f"{base}/models/nope")[0] == 404
    assert curl(f"{base}/models/two/versions/2/ready")[0] == 404
    code, body = curl(f"http://127.0.0.1:{server.http_port}/metrics")
    assert code == 200
    assert 'ort_rknn_calls_total{model="two",status="OK"}' in body


def _classes(module: Any) -> dict[str, Any]:
    return {"outputs": [module.InferRequestedOutput("K", class_count=2)]}


def _shared_output(module: Any) -> dict[str, Any]:
    asked = module.InferRequestedOutput("K")
    asked.set_shared_memory("region", 24)
    return {"outputs": [asked]}


def _shared_input(module: Any) -> dict[str, Any]:
    given = inputs(module, FEEDS["two"])
    given[0].set_shared_memory("region", 24)
    return {"inputs": given}


@pytest.mark.parametrize(
    ("asks", "why"),
    [
        (_classes, "tensor 'K': there are no answers as class names"),
        (_shared_output, "tensor 'K': there are no tensors in shared memory"),
        (_shared_input, "tensor 'A': there are no tensors in shared memory"),
    ],
)
def test_what_is_not_spoken_is_refused_and_not_left_out(asks: Any, why: str, triton: tuple[Any, Any]) -> None:
    module, client = triton
    for _ in range(3):  # known heads and unknown ones
        with pytest.raises(InferenceServerException, match=why) as refused:
            client.infer("two", **{"inputs": inputs(module, FEEDS["two"]), **asks(module)})
        assert refused.value.status() in ("StatusCode.UNIMPLEMENTED", "501")
    check(client.infer("two", inputs(module, FEEDS["two"])), local("two", FEEDS["two"]))
