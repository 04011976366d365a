"""From a model to a program: the cache, a missing toolkit, failing conversions, compiled models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

import ort_rknn
from ort_rknn_converters.errors import ToolkitBroken, ToolkitFailed, ToolkitMissing
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import CONVERT, fake_toolkit

CPU, RKNN = "CPUExecutionProvider", "RKNNExecutionProvider"
A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
FEED = {"A": A, "B": A}
SIMULATED = [(RKNN, {"device": "simulator", "min_gain": 0}), CPU]


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ort_rknn.opening.resolution._said", set())


@pytest.fixture
def toolkit(tmp_path: Path) -> Iterator[Path]:
    with fake_toolkit(tmp_path / "cache"):
        yield tmp_path / "cache"


@pytest.fixture
def no_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ToolkitMissing("there is no rknn-toolkit2; install it with `ort-rknn toolkit install`")

    monkeypatch.setattr(CONVERT, "compile_segment", missing)
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path / "cache"))


def _open(content: Any = None, **options: Any) -> Any:
    providers = [(RKNN, {"device": "simulator", "min_gain": 0, **options}), CPU]
    return ort_rknn.InferenceSession(model("two") if content is None else content, providers=providers)


@pytest.mark.usefixtures("no_toolkit")
def test_without_the_toolkit_it_runs_on_the_cpu_and_says_how_to_get_it(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        session = _open()
        assert session.get_providers() == [CPU]
        assert session.run(None, FEED)[0].shape == (3, 2)
    assert "ort-rknn toolkit install" in session.plan.notes[-1]
    assert caplog.text.count("ort-rknn toolkit install") == 1


def test_the_second_session_compiles_nothing(toolkit: Path) -> None:
    _open()
    with mock.patch.object(CONVERT, "convert", side_effect=AssertionError("converted again")):
        assert _open().get_providers() == [RKNN, CPU]
        path = toolkit.parent / "model.onnx"
        path.write_bytes(model("two"))
        assert _open(path).get_providers() == [RKNN, CPU]
    assert (toolkit / "models").is_dir()


def test_onnxruntime_judges_before_anything_is_compiled(toolkit: Path) -> None:
    with mock.patch.object(CONVERT, "convert", side_effect=AssertionError("converted")):
        with pytest.raises(InvalidProtobuf, match="protobuf parsing failed"):
            _open(b"garbage")
        with pytest.raises(InvalidProtobuf):
            _open(model("two")[:-20])


def test_compile_never_uses_only_the_cache(toolkit: Path) -> None:
    session = _open(compile="never")
    assert session.get_providers() == [CPU]
    assert "not in the cache" in session.plan.notes[-1]
    _open()
    assert _open(compile="never").get_providers() == [RKNN, CPU]


def test_a_failing_conversion_leaves_the_model_on_the_cpu(toolkit: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mock.patch.object(CONVERT, "partition", side_effect=KeyError("a defect of ours")):
        session = _open()
    assert session.get_providers() == [CPU]
    assert session.run(None, FEED)[0].shape == (3, 2)
    assert "a defect of ours" in session.plan.notes[-1]
    assert "a defect of ours" in caplog.text


@pytest.mark.parametrize("kind", ["memory", "timeout", "killed"])
def test_an_unlucky_start_is_said_once_and_forgotten(
    toolkit: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    def unlucky(*_: Any, **__: Any) -> Any:
        raise ToolkitFailed("the toolkit was killed. Close other programs", kind=kind)

    with monkeypatch.context() as patched:
        patched.setattr(CONVERT, "compile_segment", unlucky)
        patched.setattr("ort_rknn_converters.toolkit.status.prove", lambda: None)
        session = _open()
    assert session.get_providers() == [CPU]
    (said,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert said.startswith("the model runs on the CPU: the toolkit was killed. Close other programs")
    assert "the next start tries again" in said
    caplog.clear()
    assert _open().get_providers() == [RKNN, CPU]
    assert not caplog.records


def test_a_toolkit_that_does_not_start_is_forgotten(toolkit: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = ToolkitBroken("rknn-toolkit2 does not start in /p: ImportError. Repair it")
    with mock.patch.object(CONVERT, "compile_segment", side_effect=broken):
        assert _open().get_providers() == [CPU]
        assert _open().get_providers() == [CPU]
    assert caplog.text.count("does not start in /p") == 1
    assert _open().get_providers() == [RKNN, CPU]


def test_ctrl_c_in_a_conversion_is_not_swallowed(toolkit: Path) -> None:
    with (
        mock.patch.object(CONVERT, "partition", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        _open()


def test_a_model_with_nothing_for_the_npu_says_so(toolkit: Path, caplog: pytest.LogCaptureFixture) -> None:
    session = _open(model("string"))
    assert session.get_providers() == [CPU]
    assert session.plan.nodes[0].reason in session.plan.notes[-1]
    assert "the model runs on the CPU" in caplog.text


def test_an_unwritable_cache_is_done_without(toolkit: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = toolkit.parent / "file"
    blocked.write_text("")
    for _ in range(2):
        assert _open(cache_dir=blocked / "cache").get_providers() == [RKNN, CPU]
    assert caplog.text.count("compiled models are not kept") == 1


@pytest.fixture
def compiled(toolkit: Path) -> Callable[..., bytes]:
    def make(name: str = "mixed", **how: Any) -> bytes:
        from ort_rknn_converters.pipeline.convert import convert

        content: bytes = convert(model(name), min_gain=0).to_bytes(**how)
        return content

    return make


def test_a_compiled_model_opens_on_a_device(compiled: Callable[..., bytes], tmp_path: Path) -> None:
    content = compiled()
    path = tmp_path / "m.rknn.onnx"
    path.write_bytes(content)
    feed = {"X": np.arange(-16, 16, dtype=np.float32).reshape(1, 2, 4, 4)}
    expected = ort_rknn.InferenceSession(model("mixed"), providers=[CPU]).run(None, feed)
    for source in (content, path, str(path)):
        session = ort_rknn.InferenceSession(source, providers=SIMULATED)
        assert session.get_providers() == [RKNN, CPU]
        assert session.get_modelmeta().custom_metadata_map == {"names": "a,b,c"}
        assert all(np.array_equal(*pair) for pair in zip(session.run(None, feed), expected, strict=True))


def test_a_compiled_model_runs_on_the_cpu_where_there_is_no_npu(
    compiled: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    session = ort_rknn.InferenceSession(compiled())
    assert session.get_providers() == [CPU]
    assert session.run(None, {"X": np.ones((1, 2, 4, 4), np.float32)})[0].shape == (1, 2, 4, 4)
    assert [segment.name for segment in session.plan.segments] == ["npu_0"]
    assert "segments run on the CPU" in caplog.text
    assert session.plan.npu_nodes == 0
    assert "no NPU can be used" in str(session.plan)


def test_a_stripped_compiled_model_says_what_to_do(compiled: Callable[..., bytes]) -> None:
    with pytest.raises(Fail, match="stripped of its ONNX"):
        ort_rknn.InferenceSession(compiled(strip=True))


def test_a_damaged_compiled_model_is_an_invalid_graph(compiled: Callable[..., bytes]) -> None:
    import onnx

    proto = onnx.ModelProto.FromString(compiled())
    del proto.metadata_props[:]
    with pytest.raises(InvalidGraph, match="not a compiled model"):
        ort_rknn.InferenceSession(proto.SerializeToString(), providers=SIMULATED)


def test_a_compiled_model_runs_at_its_own_shapes_only(compiled: Callable[..., bytes]) -> None:
    from ort_rknn_converters.pipeline.convert import convert

    content = convert(model("dynamic"), min_gain=0, dims={"N": 3}).to_bytes()
    session = ort_rknn.InferenceSession(content, providers=SIMULATED)
    assert session.get_inputs()[0].shape == ["N", 2]
    assert session.run(None, {"X": A})[0].shape == (3, 2)
    with pytest.raises(Exception, match="compiled model runs at the shapes"):
        session.run(None, {"X": A[:2]})


def test_progress_is_logged(toolkit: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ort_rknn"):
        _open()
        _open()
    assert caplog.text.count("is compiled now") == 1
