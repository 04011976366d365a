"""``ort-rknn convert --int8``: what it asks for, and how it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from ort_rknn_converters.cli.convert import command
from ort_rknn_converters.compiled.model import CompiledModel
from tests.helpers.conversions import model as small
from tests.helpers.toolkits.scripted import ScriptedToolkit

pytestmark = pytest.mark.usefixtures("toolkit")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(small(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    (tmp_path / "samples").mkdir()
    for number in range(3):
        np.save(tmp_path / "samples" / f"{number}.npy", np.full((4, 8, 8), number, np.float32))
    return tmp_path / "samples"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_int8_with_a_folder(model: Path, samples: Path, toolkit: ScriptedToolkit) -> None:
    arguments = ("--calibration", samples, "--algorithm", "kl_divergence", "--method", "layer")
    result = run(model, "--int8", "--min-gain", 0, *arguments)
    assert result.exit_code == 0, result.output
    assert CompiledModel.load(model.with_name("m.rknn.onnx")).plan.precision == "int8"
    options = toolkit.requests[0].options
    assert (options["quantized_algorithm"], options["quantized_method"]) == ("kl_divergence", "layer")
    assert len(options["dataset"]) == 3


def test_four_bits(model: Path, samples: Path, toolkit: ScriptedToolkit) -> None:
    result = run(model, "--w4a16", "--target", "rk3576", "--min-gain", 0, "--calibration", samples)
    assert result.exit_code == 0, result.output
    assert toolkit.requests[0].precision == "w4a16"


def _files(folder: Path, content: Any) -> Path:
    folder.mkdir()
    if content is not None:
        np.save(folder / "0.npy", content)
    return folder


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda folder: None, ["--int8"], "needs calibration data"),
        (lambda folder: folder / "nowhere", ["--int8"], "does not exist"),
        (lambda folder: _files(folder / "empty", None), ["--int8"], "is empty"),
        (lambda folder: _files(folder / "wrong", np.zeros((3, 3))), ["--int8"], "x float32 [1, 4, 8, 8]"),
        (lambda folder: _files(folder / "data", np.zeros((4, 8, 8))), ["--w4a16"], "not for rk3588"),
        (lambda folder: _files(folder / "data", np.zeros((4, 8, 8))), ["--int8", "--preprocess", "?"], "no part '?'"),
        (lambda folder: _files(folder / "data", np.zeros((4, 8, 8))), ["--max-loss", "0.1"], "for precision int8"),
    ],
)
def test_bad_input_is_exit_code_2_and_no_file(
    model: Path, tmp_path: Path, toolkit: ScriptedToolkit, make: Any, arguments: list[str], message: str
) -> None:
    data = make(tmp_path)
    more = [] if data is None else ["--calibration", data]
    result = run(model, *arguments, *more)
    assert result.exit_code == 2
    assert message in result.output
    assert not model.with_name("m.rknn.onnx").exists()
    assert not toolkit.requests
