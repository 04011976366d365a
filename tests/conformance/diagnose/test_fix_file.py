"""The file of a fix holds all that a conversion, and a program, need to take it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ort_rknn.options.config_file import read_config
from ort_rknn.options.table import RknnOptions
from ort_rknn_conformance.case import Case, CaseError, Settings
from ort_rknn_conformance.diagnose.cpu_node_search import Fix
from ort_rknn_conformance.diagnose.fix_file import write_options
from ort_rknn_conformance.result import CaseResult
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.options_file import read_options
from ort_rknn_converters.quantize.calibration import Calibration, InputSpec

RIGHT = CaseResult("m", "right")
FEED = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_nodes_and_shapes(tmp_path: Path) -> None:
    case = Case("m.onnx", b"", ({},), shapes={'odd "name"': (1, 3)})
    fix = Fix(frozenset({'a"b', "ü"}), RIGHT, 2)
    write_options(tmp_path / "f.toml", fix, case, Settings("rk3566", min_gain=1.0, cpu_nodes=frozenset({"given"})))
    options = read_options(tmp_path / "f.toml")
    assert options == {
        "cpu_nodes": {'a"b', "ü", "given"},
        "target": "rk3566",
        "precision": "fp16",
        "shapes": {'odd "name"': [1, 3]},
    }
    with pytest.raises(CaseError, match="cannot be written"):
        write_options(tmp_path / "none" / "f.toml", fix, case, Settings())


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_a_quantized_model_brings_its_samples(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f.toml"
    case = Case("m.onnx", b"", (FEED, FEED, FEED))
    fix = Fix(frozenset(), RIGHT, 1, options={"max_loss": 0.01, "metric": "rel-rms"})
    write_options(file, fix, case, Settings(precision=precision, min_gain=0.0))
    write_options(file, fix, Case("m.onnx", b"", (FEED, FEED)), Settings(precision=precision, min_gain=0.0))
    values = read_options(file)
    assert values == {
        "target": "rk3588",
        "precision": "int8",
        "max_loss": 0.01,
        "metric": "rel-rms",
        "min_gain": 0.0,
        "calibration": str(tmp_path / "f.calibration"),
    }
    options = ConvertOptions.of(**values)
    samples = Calibration(options.calibration).samples([InputSpec("x", np.dtype(np.float32), (2, 3))])
    assert len(samples) == 2
    np.testing.assert_array_equal(samples[0]["x"], FEED["x"])
    monkeypatch.setenv("ORT_RKNN_CONFIG", str(file))
    assert read_config()[1] == file
    assert RknnOptions.parse().max_loss == 0.01


def test_the_users_own_calibration_is_named(tmp_path: Path) -> None:
    settings = Settings(precision="int8", min_gain=1.0, calibration="photos", preprocess="32x32,bgr")
    write_options(tmp_path / "f.toml", Fix(frozenset({"n"}), RIGHT, 1), Case("m", b"", (FEED,)), settings)
    values = read_options(tmp_path / "f.toml")
    assert values["calibration"] == str(Path("photos").absolute())
    assert values["preprocess"] == "32x32,bgr"
    assert not (tmp_path / "f.calibration").exists()


def test_fp16_as_the_cure_needs_no_calibration(tmp_path: Path) -> None:
    fix = Fix(frozenset(), RIGHT, 1, options={"precision": "fp16"})
    write_options(tmp_path / "f.toml", fix, Case("m", b"", (FEED,)), Settings(precision="mixed", min_gain=1.0))
    assert read_options(tmp_path / "f.toml") == {"target": "rk3588", "precision": "fp16"}
