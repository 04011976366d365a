"""What may be asked of the toolkit, and how it is written down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ort_rknn_converters.errors import UnknownOption, UnknownTarget
from ort_rknn_converters.onnx_file.signature import DeclaredValue
from ort_rknn_converters.toolkit.model_io import GraphIO
from ort_rknn_converters.toolkit.request import CompileRequest, write_feeds, write_job

IO = GraphIO((DeclaredValue("a", (1, 2)), DeclaredValue("b", (3,))), (DeclaredValue("y", (1, 2)),))
SAMPLE = {"b": np.arange(3), "a": np.ones((1, 2), np.float32)}


def test_refuses_what_does_not_exist() -> None:
    with pytest.raises(UnknownTarget, match=r"rk3399.*Known targets: rk3588"):
        CompileRequest(b"", "rk3399")
    with pytest.raises(UnknownOption, match=r"'fp8'. Known: fp16, int8"):
        CompileRequest(b"", "rk3588", "fp8")
    with pytest.raises(UnknownOption, match=r"mean_values. Known: .*quantized_algorithm"):
        CompileRequest(b"", "rk3588", options={"mean_values": [[0]]})


def test_quantization_needs_data() -> None:
    with pytest.raises(UnknownOption, match="needs calibration data"):
        CompileRequest(b"", "rk3588", "int8")
    assert not CompileRequest(b"", "rk3588").quantized


def test_the_job(tmp_path: Path) -> None:
    options = {"dataset": [SAMPLE, SAMPLE], "quantized_algorithm": "mmse", "auto_hybrid": True}
    request = CompileRequest(b"model", "RK3588S", "int8", (SAMPLE,), 2, "note", options)
    write_job(request, IO, tmp_path, nice=5)
    job = json.loads((tmp_path / "job.json").read_text())
    assert job["config"] == {
        "target_platform": "rk3588",
        "optimization_level": 2,
        "custom_string": "note",
        "quantized_dtype": "w8a8",
        "quantized_algorithm": "mmse",
    }
    assert job["build"] == {"do_quantization": True, "auto_hybrid": True, "dataset": "dataset.txt"}
    assert job["nice"] == 5
    assert (tmp_path / "model.onnx").read_bytes() == b"model"
    lines = (tmp_path / "dataset.txt").read_text().splitlines()
    assert len(lines) == 2
    a, b = (np.load(tmp_path / file) for file in lines[1].split(" "))  # in the model's order, not the sample's
    np.testing.assert_array_equal(a, SAMPLE["a"])
    np.testing.assert_array_equal(b, SAMPLE["b"])
    assert not (tmp_path / job["feeds"]).exists()
    write_feeds(request, tmp_path)
    (feed,) = json.loads((tmp_path / job["feeds"]).read_text())
    np.testing.assert_array_equal(np.load(tmp_path / feed["b"]), SAMPLE["b"])


def test_calibration_data_that_lack_an_input(tmp_path: Path) -> None:
    request = CompileRequest(b"model", "rk3588", "int8", options={"dataset": [{"a": SAMPLE["a"]}]})
    with pytest.raises(UnknownOption, match=r"sample 0 lacks the input\(s\) b"):
        write_job(request, IO, tmp_path)
