"""What a program asks of onnxruntime that an NPU part cannot give, and options that must not be lost on the way."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import ort_rknn
from ort_rknn.ort_types.session_options import WEIGHTS_FOLDER
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import fake_toolkit

CPU, RKNN = "CPUExecutionProvider", "RKNNExecutionProvider"
SIMULATED = [(RKNN, {"device": "simulator", "min_gain": 0}), CPU]
FEED = {"X": np.arange(-16, 16, dtype=np.float32).reshape(1, 2, 4, 4)}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "m.onnx").write_bytes(model("mixed"))
    with fake_toolkit(tmp_path / "cache"):
        yield tmp_path


@pytest.fixture
def promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_PROMOTE_CPU", "1")
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    monkeypatch.setenv("ORT_RKNN_MIN_GAIN", "0")


@pytest.mark.usefixtures("promoted")
def test_a_promoted_program_that_writes_the_optimized_model(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """onnxruntime's own optimizers, quantizers and converters do."""
    options = ort_rknn.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    with caplog.at_level(logging.WARNING):
        session = ort_rknn.InferenceSession(str(folder / "m.onnx"), options, providers=[CPU])
    assert session.get_providers() == [CPU]
    assert onnx.load(folder / "optimized.onnx").graph.node
    (said,) = [record.message for record in caplog.records]
    assert "has onnxruntime write the optimized model" in said
    assert any("write the optimized model" in note for note in session.plan.notes)


def _with_weights_outside(folder: Path) -> bytes:
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", ["X", "W"], ["Y"])],
            "g",
            [onnx.helper.make_tensor_value_info("X", 1, [1, 2, 4, 64])],
            [onnx.helper.make_tensor_value_info("Y", 1, [1, 2, 4, 64])],
            [onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32) * 3, "W")],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(proto, folder / "w.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return (folder / "w.onnx").read_bytes()


def _answers_threefold(session: Any) -> None:
    feed = np.ones((1, 2, 4, 64), np.float32)
    np.testing.assert_array_equal(session.run(None, {"X": feed})[0], 3 * feed)


def test_weights_in_a_folder_that_an_option_names(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = _with_weights_outside(folder)
    options = ort_rknn.SessionOptions()
    options.add_session_config_entry(WEIGHTS_FOLDER, str(folder))
    session = ort_rknn.InferenceSession(content, options, providers=SIMULATED)
    assert session.get_providers() == [CPU]
    assert WEIGHTS_FOLDER in caplog.text
    assert "Give the model's path" in caplog.text
    _answers_threefold(session)
    assert ort_rknn.InferenceSession(str(folder / "w.onnx"), options, providers=SIMULATED).get_providers() == [
        RKNN,
        CPU,
    ]


@pytest.mark.skipif(
    not hasattr(onnxruntime.SessionOptions, "add_external_initializers_from_files_in_memory"),
    reason="this onnxruntime has none",
)
def test_weights_from_files_in_memory(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    content, weights = _with_weights_outside(folder), (folder / "w.bin").read_bytes()
    options = ort_rknn.SessionOptions()
    options.add_external_initializers_from_files_in_memory(["w.bin"], [weights], [len(weights)])
    session = ort_rknn.InferenceSession(content, options, providers=SIMULATED)
    assert session.get_providers() == [CPU]
    assert "weights were replaced through SessionOptions" in caplog.text
    _answers_threefold(session)


def test_compiled_bytes_with_their_code_beside_the_path_an_option_names(folder: Path) -> None:
    options = ort_rknn.SessionOptions()
    for key, value in {"enable": "1", "file_path": str(folder / "c.onnx"), "embed_mode": "0"}.items():
        options.add_session_config_entry(f"ep.context_{key}", value)
    ort_rknn.InferenceSession(str(folder / "m.onnx"), options, providers=SIMULATED)
    assert list(folder.glob("*.rknn"))
    content = (folder / "c.onnx").read_bytes()
    reading = ort_rknn.SessionOptions()
    reading.add_session_config_entry("ep.context_file_path", str(folder / "c.onnx"))
    session = ort_rknn.InferenceSession(content, reading, providers=SIMULATED)
    assert session.get_providers() == [RKNN, CPU]
    session.run(None, FEED)
    with pytest.raises(Exception, match="give the model's path, not its bytes"):
        ort_rknn.InferenceSession(content, providers=SIMULATED)


def test_onnxruntime_warns_of_an_entry_at_most_once(folder: Path) -> None:
    """Its logger is native: the warning shows in another process only."""
    code = f"""
import ort_rknn
from tests.helpers.toolkits.fake import fake_toolkit
from pathlib import Path
from tests.helpers.ort_models import model
options = ort_rknn.SessionOptions()
options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
with fake_toolkit(Path({str(folder / "cache")!r})):
    ort_rknn.InferenceSession(model("two"), options, providers={SIMULATED[:1]!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ}, check=True
    )
    assert done.stderr.count("already exists") <= 1


@pytest.mark.parametrize("error", [RuntimeError("no home"), ValueError("odd")])
def test_whatever_fails_at_the_start_is_no_attribute_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """onnxruntime falls back to the CPU then, and looks for an attribute that says so."""
    import ort_rknn.api.session as api

    calls: list[int] = []

    def read(*_: Any, **__: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise error

    monkeypatch.setattr(api.provider_lists, "read", read)
    session = ort_rknn.InferenceSession(str(folder / "m.onnx"), providers=SIMULATED)
    assert session.get_providers() == [CPU]
