"""Compiled models written as onnxruntime's own options and its ``ModelCompiler`` say, with its messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidProtobuf

import ort_rknn
from ort_rknn_converters.errors import ToolkitMissing
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import CONVERT, fake_toolkit
from tests.helpers.versions import needs_onnxruntime

CPU, RKNN = "CPUExecutionProvider", "RKNNExecutionProvider"
FEED = {"X": np.arange(-16, 16, dtype=np.float32).reshape(1, 2, 4, 4)}
SIMULATED = [(RKNN, {"device": "simulator", "min_gain": 0}), CPU]
needs_compiler = needs_onnxruntime("1.23", "there is ModelCompiler")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(model("mixed"))
    with fake_toolkit(tmp_path / "cache"):
        yield tmp_path


def _open(source: Any = "m.onnx", **entries: str) -> Any:
    options = ort_rknn.SessionOptions()
    for key, value in {"enable": "1", **entries}.items():
        options.add_session_config_entry(f"ep.context_{key}", value)
    return ort_rknn.InferenceSession(source, options, SIMULATED)


def _contexts(path: str | Path) -> list[onnx.NodeProto]:
    proto = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(str(path))
    return [node for node in proto.graph.node if node.op_type == "EPContext"]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _runs_the_same(path: str | Path) -> None:
    expected = onnxruntime.InferenceSession("m.onnx", providers=[CPU]).run(None, FEED)
    session = ort_rknn.InferenceSession(path, providers=SIMULATED)
    assert session.get_providers() == [RKNN, CPU]
    assert all(np.array_equal(*pair) for pair in zip(session.run(None, FEED), expected, strict=True))


def test_a_session_writes_its_compiled_model_beside_the_model(folder: Path) -> None:
    session = _open()
    assert session.run(None, FEED)[0].shape == (1, 2, 4, 4)
    (node,) = _contexts("m_ctx.onnx")
    attributes = _attributes(node)
    assert attributes["embed_mode"] == 0
    assert attributes["source"] == RKNN.encode()
    assert (folder / attributes["ep_cache_context"].decode()).is_file()
    _runs_the_same("m_ctx.onnx")


def test_embedded_and_named(folder: Path) -> None:
    _open(model("mixed"), file_path="other.onnx", embed_mode="1", node_name_prefix="my_")
    (node,) = _contexts("other.onnx")
    assert _attributes(node)["embed_mode"] == 1
    assert node.name.startswith("my_")
    assert {file.name for file in folder.iterdir() if file.is_file()} == {"m.onnx", "other.onnx"}
    _runs_the_same("other.onnx")


def test_weights_in_a_file_of_their_own(folder: Path) -> None:
    _open(model_external_initializers_file_name="w.bin")
    assert (folder / "w.bin").is_file()
    _runs_the_same("m_ctx.onnx")


def test_the_refusals_are_onnxruntimes(folder: Path) -> None:
    _open()
    with pytest.raises(Fail) as error:
        _open()
    assert str(error.value).endswith(
        "Failed to generate EP context model since the file '\"m_ctx.onnx\"' exists already. "
        "Please remove the EP context model if you want to re-generate it."
    )
    with pytest.raises(InvalidArgument, match="Both ep_context_path and model_path are empty"):
        _open(model("mixed"))
    with pytest.raises(InvalidArgument, match="context_file_path should not point to a folder"):
        _open(file_path=".")


def test_nothing_compiled_nothing_written(folder: Path) -> None:
    assert _open(model("string"), file_path="none.onnx").get_providers() == [CPU]
    assert not (folder / "none.onnx").exists()


def _compiler(source: Any = "m.onnx", *, npu: bool = True, **more: Any) -> Any:
    options = ort_rknn.SessionOptions()
    if npu:
        options.add_provider(RKNN, {"min_gain": "0"})
    return ort_rknn.ModelCompiler(options, source, **more)


@needs_compiler
@pytest.mark.parametrize("embed", [False, True])
def test_the_compiler_writes_files(folder: Path, embed: bool) -> None:
    _compiler(embed_compiled_data_into_model=embed, external_initializers_file_path="w.bin").compile_to_file("o.onnx")
    (node,) = _contexts("o.onnx")
    assert _attributes(node)["embed_mode"] == int(embed)
    assert (folder / "w.bin").is_file()
    _runs_the_same("o.onnx")
    _compiler().compile_to_file()
    _runs_the_same("m_ctx.onnx")
    _compiler().compile_to_file("o.onnx")  # it may be replaced


@needs_compiler
def test_the_compiler_gives_bytes(folder: Path) -> None:
    content = _compiler(model("mixed")).compile_to_bytes()
    _runs_the_same(content)
    streamed: list[bytes] = []
    _compiler().compile_to_stream(streamed.append)
    assert b"".join(streamed) == content


@needs_compiler
def test_the_compiler_refuses_as_onnxruntimes_does(folder: Path) -> None:
    flags = onnxruntime.OrtCompileApiFlags
    (folder / "o.onnx").write_bytes(b"")
    cases: list[tuple[Any, Any]] = [
        (lambda npu: _compiler("nope.onnx", npu=npu).compile_to_bytes(), InvalidArgument),
        (lambda npu: _compiler(b"garbage", npu=npu).compile_to_bytes(), InvalidProtobuf),
        (lambda npu: _compiler(b"", npu=npu), ValueError),
        (lambda npu: _compiler("", npu=npu), ValueError),
        (lambda npu: _compiler(3, npu=npu), TypeError),
        (lambda npu: _compiler(npu=npu).compile_to_file("."), InvalidArgument),
        (lambda npu: _compiler(npu=npu).compile_to_file("nodir/x.onnx"), InvalidArgument),
        (
            lambda npu: _compiler(npu=npu, flags=flags.ERROR_IF_OUTPUT_FILE_EXISTS).compile_to_file("o.onnx"),
            Fail,
        ),
        (
            lambda npu: _compiler(model("string"), npu=npu, flags=flags.ERROR_IF_NO_NODES_COMPILED).compile_to_bytes(),
            Fail,
        ),
    ]
    for call, kind in cases:
        with pytest.raises(kind) as theirs:
            call(False)
        with pytest.raises(kind) as ours:
            call(True)
        assert str(ours.value) == str(theirs.value)


@needs_compiler
def test_without_the_provider_or_npu_nodes_the_compiler_is_onnxruntimes(folder: Path) -> None:
    plain = onnxruntime.ModelCompiler(onnxruntime.SessionOptions(), "m.onnx").compile_to_bytes()
    assert _compiler(npu=False).compile_to_bytes() == plain
    assert isinstance(_compiler(), onnxruntime.ModelCompiler)
    theirs = onnxruntime.ModelCompiler(onnxruntime.SessionOptions(), model("string")).compile_to_bytes()
    assert _compiler(model("string")).compile_to_bytes() == theirs


@needs_compiler
def test_the_compiler_without_the_toolkit_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ToolkitMissing("run ort-rknn toolkit install")

    monkeypatch.setattr(CONVERT, "compile_segment", missing)
    with pytest.raises(Fail, match="ort-rknn toolkit install"):
        _compiler().compile_to_bytes()
