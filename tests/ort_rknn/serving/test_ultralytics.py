"""The real Ultralytics package as a client, in an environment of its own: ``make test-serving`` installs it there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import ort_rknn
from ort_rknn.serving.server import Server
from tests.helpers.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]
SPEC = importlib.util.find_spec("ultralytics")
if SPEC is None or SPEC.origin is None:
    pytest.skip("Ultralytics is installed by `make test-serving`", allow_module_level=True)

NAMES = {0: "person", 1: "bicycle"}
SIDE, BOXES = 64, 84


def detector() -> bytes:
    """A model with the outside of a YOLO detector: one box, of class 1, as bright as the picture, among empty ones."""
    rows = np.zeros((1, 4 + len(NAMES), BOXES), np.float32)
    rows[0, :, 7] = [32, 24, 20, 10, 0, 1]  # middle, size, scores
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["images"], ["bright"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Squeeze", ["bright", "last"], ["scale"]),
            helper.make_node("Mul", ["rows", "scale"], ["output0"]),
        ],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, list(rows.shape))],
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array([3], np.int64), "last")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    facts = {"task": "detect", "stride": "32", "imgsz": f"[{SIDE}, {SIDE}]", "batch": "1", "names": repr(NAMES)}
    helper.set_model_props(made, facts)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "yolo.onnx").write_bytes(detector())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with served(folder) as running:
        yield running


def address(server: Server, scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{server.grpc_ports[0] if scheme == 'grpc' else server.http_port}/yolo"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_its_class_of_remote_models(scheme: str, server: Server, folder: Path) -> None:
    assert SPEC is not None
    assert SPEC.origin is not None
    path = Path(SPEC.origin).parent / "utils" / "triton.py"  # which needs nothing of the rest
    spec = importlib.util.spec_from_file_location("ultralytics_triton", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    remote = module.TritonRemoteModel(address(server, scheme))
    assert remote.metadata["names"] == repr(NAMES)
    image = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    with ort_rknn.InferenceSession(str(folder / "yolo.onnx"), providers=["CPUExecutionProvider"]) as session:
        wanted = session.run(None, {"images": image})[0]
    (got,) = remote(image)
    assert (got.dtype, got.shape, got.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_its_detector_of_an_address(scheme: str, server: Server) -> None:
    pytest.importorskip("torch", reason="the package alone is here, without what it runs on")
    from ultralytics import YOLO

    model = YOLO(address(server, scheme), task="detect")
    (result,) = model.predict(np.full((SIDE, SIDE, 3), 255, np.uint8), imgsz=SIDE, verbose=False)
    assert result.names == NAMES
    assert [NAMES[int(number)] for number in result.boxes.cls] == ["bicycle"]
    assert result.boxes.xywh.tolist() == [[32.0, 24.0, 20.0, 10.0]]
    assert result.boxes.conf.tolist() == [1.0]
