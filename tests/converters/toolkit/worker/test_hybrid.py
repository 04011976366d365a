"""Int8 builds with float16 layers: which of the toolkit's tensors are named, and the order of its calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from onnx import helper

from ort_rknn_converters.toolkit.request import CompileRequest, _float16
from ort_rknn_converters.toolkit.worker import hybrid, stub_modules
from tests.helpers.toolkits import real as toolkit


class Vendor:
    """Its two steps, as far as files and names go."""

    calls: list[str]
    tensors = ("x", "c", "c_mm", "y", "y2", "y2_rs")

    def __init__(self, verbose: bool) -> None:
        assert verbose is False

    def config(self, **_: Any) -> int:
        Vendor.calls.append("config")
        return 0

    def load_onnx(self, model: str) -> int:
        Vendor.calls.append(f"load {model}")
        return 0

    def hybrid_quantization_step1(self, dataset: str, proposal: bool) -> int:
        Vendor.calls.append(f"calibrate {dataset}")
        content = {"custom_quantize_layers": {}, "quantize_parameters": dict.fromkeys(self.tensors)}
        Path("model.quantization.cfg").write_text(json.dumps(content))
        return 0

    def hybrid_quantization_step2(self, **names: str) -> int:
        Vendor.calls.append("build")
        assert names["model_input"] == "model.model"
        assert names["data_input"] == "model.data"
        return 0


@pytest.fixture(autouse=True)
def yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: dict[str, ModuleType] = stub_modules.BUILDERS["ruamel"]()
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    Vendor.calls = []


def run(name: str, function: Any, **arguments: Any) -> None:
    assert function(**arguments) == 0


def test_the_tensors_of_the_layers_are_named() -> None:
    job = {"model": "model.onnx", "config": {}, "build": {"dataset": "d.txt"}}
    job["float16"] = {"layers": ["c", "y"], "others": ["x", "y2"]}  # type: ignore[dict-item]
    assert isinstance(hybrid.build(run, Vendor, job), Vendor)
    assert Vendor.calls == ["config", "load model.onnx", "calibrate d.txt", "config", "build"]
    content = json.loads(Path("model.quantization.cfg").read_text())
    assert content["custom_quantize_layers"] == dict.fromkeys(["c", "c_mm", "y"], "float16")


def test_a_request_names_the_nodes_of_the_layers_too() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["c"], "first"), helper.make_node("Neg", ["c"], ["y"], "second")]
    model = toolkit.model(nodes, [("x", toolkit.FLOAT, [1, 4])], [("y", toolkit.FLOAT, [1, 4])])
    assert _float16(CompileRequest(model, "rk3588")) is None
    found = _float16(CompileRequest(model, "rk3588", options={"float16": ("c",)}))
    assert found == {"layers": ["c", "first"], "others": ["x", "y"]}
