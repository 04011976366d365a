"""Weights in files beside the model, in and out, and models that no single protobuf message could hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import ort_rknn
from ort_rknn_converters import epcontext
from ort_rknn_converters.bundle import Bundle
from ort_rknn_converters.cache import load_or_convert
from ort_rknn_converters.compiled import CompiledModel
from ort_rknn_converters.convert import convert
from ort_rknn_converters.convert_bundle import convert_bundle
from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.options import ConvertOptions
from tests.helpers.fake_toolkit import fake_compile

WIDTH = 160
SIMULATED = [("RKNNExecutionProvider", {"device": "simulator"})]


def _model(folder: Path, width: int = WIDTH, rows: Any = 1, *, sparse: bool = False) -> Path:
    """X [rows, width] -> X W0, Cos (kept on the CPU), W1: both weights in ``w.bin``."""
    size = 4 * width * width
    tensors = []
    with (folder / "w.bin").open("wb") as file:
        for number in range(2):
            tensor = TensorProto(name=f"W{number}", data_type=TensorProto.FLOAT, dims=[width, width])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "w.bin"), ("offset", number * size), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            if not sparse:
                file.write((np.arange(width * width, dtype=np.float32) % (7 + number) - 3).tobytes())
        file.truncate(2 * size)
    nodes = [
        helper.make_node("MatMul", ["X", "W0"], ["a"], "mm0"),
        helper.make_node("Cos", ["a"], ["b"], "cos"),
        helper.make_node("MatMul", ["b", "W1"], ["Y"], "mm1"),
    ]
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, width]) for name in "XY"]
    graph = helper.make_graph(nodes, "g", edges[:1], edges[1:], tensors)
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


OPTIONS: dict[str, Any] = {"min_gain": 0, "cpu_ops": frozenset({"Cos"}), "verify_feeds": 1}
X = {"X": np.linspace(-1, 1, WIDTH, dtype=np.float32).reshape(1, WIDTH)}


def _agrees(source: Any, path: Path) -> None:
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, X)[0]
    session = ort_rknn.InferenceSession(source, providers=SIMULATED)
    assert session.plan.npu_nodes == 2
    scale = float(np.abs(expected).max())
    assert np.allclose(session.run(None, X)[0], expected, atol=2e-2 * scale)


def test_weights_beside_the_model_are_read_and_compiled_models_need_them_no_more(tmp_path: Path) -> None:
    path = _model(tmp_path)
    compiled = convert(path, compile=fake_compile, verdicts=tmp_path, **OPTIONS)
    out = tmp_path / "out"
    out.mkdir()
    assert compiled.save(out / "c.onnx") == (out / "c.onnx",)
    _agrees(out / "c.onnx", path)
    assert CompiledModel.load(out / "c.onnx") == compiled


def test_what_does_not_fit_one_message_puts_its_weights_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _model(tmp_path)
    compiled = convert(path, compile=fake_compile, verdicts=tmp_path, **OPTIONS)
    monkeypatch.setattr(epcontext, "_INSIDE_LIMIT", 4 * WIDTH * WIDTH)
    files = compiled.save(tmp_path / "c.onnx")
    assert [file.name for file in files] == ["c.onnx", "c.weights"]
    assert files[0].stat().st_size < 20_000
    assert files[1].stat().st_size == 2 * 4 * WIDTH * WIDTH
    onnx.checker.check_model(str(files[0]))
    assert CompiledModel.load(files[0]) == compiled
    _agrees(files[0], path)


def test_the_cache_notices_other_weights(tmp_path: Path) -> None:
    path = _model(tmp_path)
    options = ConvertOptions(**OPTIONS)
    made: list[int] = []

    def counting(request: Any, **more: Any) -> Any:
        made.append(1)
        return fake_compile(request, **more)

    for _ in range(2):
        load_or_convert(path, options, cache_dir=tmp_path / "cache", compile=counting)
    assert len(made) == 2  # two segments, once
    with (tmp_path / "w.bin").open("r+b") as file:
        file.write(b"\1\2\3\4")
    load_or_convert(path, options, cache_dir=tmp_path / "cache", compile=counting)
    assert len(made) == 4


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = _model(tmp_path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises((ModelError, FileNotFoundError), match=r"w\.bin"):
        convert(path, compile=fake_compile, verdicts=tmp_path, **OPTIONS)


def test_several_shapes_share_external_weights(tmp_path: Path) -> None:
    path = _model(tmp_path, rows="N")
    wanted = [ConvertOptions(shapes={"X": (rows, WIDTH)}, **OPTIONS) for rows in (1, 2)]
    bundle = convert_bundle(path, wanted, compile=fake_compile, verdicts=tmp_path)
    bundle.save(tmp_path / "c.onnx")
    assert (tmp_path / "c.onnx").stat().st_size < 1.2 * 2 * 4 * WIDTH * WIDTH
    read = Bundle.load(tmp_path / "c.onnx")
    assert [one.load() for one in read.variants] == [one.load() for one in bundle.variants]
    session = ort_rknn.InferenceSession(tmp_path / "c.onnx", providers=SIMULATED)
    plain = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = {"X": np.ones((3, WIDTH), np.float32)}
    assert np.array_equal(session.run(None, x)[0], plain.run(None, x)[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_more_than_two_gigabytes_are_converted(tmp_path: Path) -> None:
    """2.3 GB of weights in a sparse file; takes 11.4 GB of memory (measured)."""
    path = _model(tmp_path, 17_000, sparse=True)
    compiled = convert(path, compile=fake_compile, verdicts=tmp_path, **OPTIONS)
    assert compiled.plan.npu_nodes == 2
