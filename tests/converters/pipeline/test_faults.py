"""What no check foresaw is explained: the model is invalid, or we have a fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper

from ort_rknn_converters.errors import ConvertError, Fault, ModelError, RunFailed
from ort_rknn_converters.pipeline import convert as module
from ort_rknn_converters.pipeline.convert import convert, plan_only
from ort_rknn_converters.pipeline.faults import explained
from tests.helpers.onnx_models import build, random
from tests.helpers.toolkits.scripted import ScriptedToolkit

TOO_FEW = [helper.make_node("MatMul", ["x"], ["y"])]
TOO_MANY = [helper.make_node("Relu", ["x", "x", "x"], ["y"])]
NO_RANK = [helper.make_node("Conv", ["x", "x"], ["y"], kernel_shape=[2**62, -1])]


@pytest.mark.parametrize("nodes", [TOO_FEW, TOO_MANY, NO_RANK], ids=["too few", "too many", "no rank"])
def test_what_onnxruntime_refuses_is_the_models_fault(nodes: list[onnx.NodeProto]) -> None:
    model = build(nodes, {"x": random(2, 2)}, ["y"]).SerializeToString()
    for work in (plan_only, convert):
        with pytest.raises(ModelError, match="ONNX Runtime cannot load the model"):
            work(model, "rk3588", min_gain=0.0, **({"compile": ScriptedToolkit()} if work is convert else {}))


def test_inference_does_not_end_the_process(tmp_path: Path) -> None:
    """It reads the type of an input that has none."""
    model = build([helper.make_node("RegexFullMatch", ["x"], ["y"], pattern="a")], {"x": random(1)}, ["y"])
    model.opset_import[0].version = 20
    model.graph.input[0].ClearField("type")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code = (
        f"from ort_rknn_converters.pipeline.convert import plan_only; plan_only({str(tmp_path / 'm.onnx')!r}, 'rk3588')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 1
    assert "ModelError" in ended.stderr


def test_what_onnxruntime_opens_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise IndexError("tuple index \x1b out of range")

    monkeypatch.setattr(module, "partition", broken)
    model = build([helper.make_node("Relu", ["x"], ["y"])], {"x": random(2)}, ["y"]).SerializeToString()
    with pytest.raises(
        Fault, match=r"a fault of its own \(IndexError: tuple index \\x1b out of range; in test_faults.py"
    ):
        plan_only(model, "rk3588")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_memory_is_of_the_moment(error: Exception) -> None:
    with pytest.raises(RunFailed, match="needs more memory") as raised, explained(lambda: b""):
        raise error
    assert raised.value.kind == "memory"


class _Ours(Exception):
    """What a caller's own compile() raises to get out."""


@pytest.mark.parametrize("error", [FileNotFoundError("m"), ConvertError("c"), KeyboardInterrupt(), _Ours()])
def test_errors_that_are_known_stay(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, explained(lambda: b""):
        raise error
    assert raised.value is error


def test_nothing_is_printed_of_a_model_with_names_that_are_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    model = build([helper.make_node("Relu", ["x", "x"], ["y"], name="AAAA")], {"x": random(1)}, ["y"])
    broken = model.SerializeToString().replace(b"AAAA", b"\xa2\x9b[2")
    with pytest.raises(ModelError):
        plan_only(broken, "rk3588")
    assert capsys.readouterr() == ("", "")
