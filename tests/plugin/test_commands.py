"""What the commands say and make for the plugin."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import ort_rknn.plugin
from ort_rknn.bench.cli import command as bench
from ort_rknn.bench.plugin import PLUGIN_OPTIONS
from ort_rknn.options.table import OPTIONS
from ort_rknn_converters.cli.convert import command as convert
from ort_rknn_converters.cli.info import command as info
from ort_rknn_converters.compiled.bundle import Bundle, Variant
from tests.helpers.conversions import model as small
from tests.helpers.emulator import ABI, Emulator, compile_library
from tests.helpers.plugin import build_plugin, emulated_sample, plugin_session
from tests.helpers.toolkits.emulated import emulated_toolkit


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    """Runs ``convert`` with a stand-in for the toolkit."""
    onnx.save(small(), tmp_path / "m.onnx")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(convert, [str(tmp_path / "m.onnx"), "--min-gain", "0", *arguments])

    with emulated_toolkit(tmp_path / "cache"):
        yield run


def test_convert_for_the_plugin(made: Any, plugin: Emulator, tmp_path: Path) -> None:
    done = made("--plugin")
    assert done.exit_code == 0, done.output
    path = tmp_path / "m.rknn.onnx"
    model = onnx.load(path)
    assert len(model.functions) == 0
    assert list(tmp_path.glob("*.rknn"))
    assert not any(len(attribute.s) > 1000 for node in model.graph.node for attribute in node.attribute)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["ep_compatibility_info.RKNNExecutionProvider"] == "rknn;targets=rk3588;toolkit=2.5.0"
    x = np.zeros((1, 4, 8, 8), np.float32)
    assert plugin_session(path).run(None, {"x": x})[0].shape == (1, 4, 8, 8)


def test_convert_for_the_plugin_takes_one_shape(made: Any) -> None:
    done = made("--plugin", "--shape", "x=1x4x8x8", "--shape", "x=1x4x16x16")
    assert done.exit_code == 2
    assert "--plugin takes one shape and got 2" in done.output


def say(path: Path) -> str:
    return CliRunner().invoke(info, [str(path)]).output


def test_info_says_whether_a_file_is_fit(tmp_path: Path, sample_path: Path) -> None:
    assert "fit for onnxruntime-ep-rknn\n" in say(sample_path).replace("  ", "")
    compiled = emulated_sample()
    shapes = [(1, 3, 8, 8), (1, 3, 16, 16)]
    Bundle(tuple(Variant({"x": shape}, ("rk3588",), lambda: compiled) for shape in shapes), None).save(tmp_path / "b")
    assert "not fit for onnxruntime-ep-rknn: several shapes" in say(tmp_path / "b")
    socs = [("rk3588",), ("rk3566",)]
    Bundle(tuple(Variant({"x": (1, 3, 8, 8)}, soc, lambda: compiled) for soc in socs), None).save(tmp_path / "s")
    assert "on rk3588 only" in say(tmp_path / "s")
    listed = json.loads(CliRunner().invoke(info, [str(sample_path), "--json"]).output)
    assert listed["plugin"] == "fit for onnxruntime-ep-rknn"


def test_bench_measures_both(
    emulator: Emulator, sample_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(emulator.path))
    monkeypatch.setattr(ort_rknn.plugin, "get_library_path", lambda: str(build_plugin()))
    report = tmp_path / "bench.json"
    arguments = [str(sample_path), "--plugin", "-n", "5", "-j", "2", "--device", "npu", "--json", str(report)]
    done = CliRunner().invoke(bench, arguments)
    assert done.exit_code == 0, done.output
    passes = json.loads(report.read_text())["passes"]
    assert [one["api"] for one in passes] == ["async", "plugin", "plugin, 2 threads"]
    assert [one["completed"] for one in passes] == [5, 5, 5]
    assert "plugin, 2 threads" in done.output


def test_the_options_are_the_librarys() -> None:
    library = ctypes.CDLL(
        str(
            compile_library(
                [ABI / "ep" / "options.c", ABI / "ep" / "runtime.c", ABI / "ep" / "machine.c"],
                "options.so",
                "-O1",
                f"-I{ABI}",
            )
        )
    )
    library.ep_option_names.restype = ctypes.c_char_p
    assert library.ep_option_names().decode() == ", ".join(PLUGIN_OPTIONS)
    assert set(PLUGIN_OPTIONS) <= set(OPTIONS)


def test_the_packages_own_copy() -> None:
    assert ort_rknn.plugin.get_ep_names() == [ort_rknn.plugin.get_ep_name()] == ["RKNNExecutionProvider"]
