"""``ort-rknn convert`` on models that are wrong: a clear sentence, exit code 2, and no file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from onnx import NodeProto, TensorProto, helper

from ort_rknn_converters.cli.convert import command
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import ToolkitFailed
from tests.helpers.toolkits.scripted import ScriptedToolkit

pytestmark = pytest.mark.usefixtures("toolkit")
N = helper.make_node


def save(path: Path, nodes: list[NodeProto], opset: int = 17, weights: Sequence[TensorProto] = ()) -> None:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    (path / "m.onnx").write_bytes(model.SerializeToString())


def refusal(path: Path, nodes: list[NodeProto], opset: int = 17) -> str:
    """What the command says of a model of ``x`` and ``y``, both float[2, 3]; it must leave no file."""
    save(path, nodes, opset)
    result = CliRunner().invoke(command, [str(path / "m.onnx"), "--min-gain", "0"])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.stderr.startswith("Error: ")
    assert [file.name for file in path.iterdir() if file.is_file()] == ["m.onnx"]
    return result.stderr


def test_a_cycle(tmp_path: Path) -> None:
    nodes = [N("Add", ["x", "b"], ["a"]), N("Relu", ["a"], ["b"]), N("Neg", ["b"], ["y"])]
    assert "its graph has a cycle" in refusal(tmp_path, nodes)


def test_nodes_in_the_wrong_order_are_sorted(tmp_path: Path) -> None:
    save(tmp_path, [N("Neg", ["b"], ["y"], name="last"), N("Relu", ["x"], ["b"], name="first")])
    result = CliRunner().invoke(command, [str(tmp_path / "m.onnx"), "--min-gain", "0"])
    assert result.exit_code == 0, result.output
    compiled = CompiledModel.load(tmp_path / "m.rknn.onnx")
    assert [node.name for node in compiled.plan.nodes] == ["first", "last"]
    assert compiled.plan.npu_share == 1


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ([N("Relu", ["nothing"], ["y"])], "nothing"),
        ([N("Relu", ["x"], ["z"])], "y"),
        ([N("Relu", ["x"], ["y"]), N("Neg", ["x"], ["y"])], "y"),
        ([N("Relu", ["x", "x"], ["y"])], "Relu"),
        ([N("Concat", ["x", "x"], ["y"])], "axis"),
        ([N("Transpose", ["x"], ["y"], perm=[0, 0])], "Transpose"),
        ([N("And", ["x", "x"], ["y"])], "And"),
    ],
    ids=["no such value", "no such output", "made twice", "too many inputs", "no attribute", "bad attribute", "type"],
)
def test_an_invalid_graph(tmp_path: Path, nodes: list[NodeProto], word: str) -> None:
    assert word in refusal(tmp_path, nodes)


def test_shapes_that_cannot_be(tmp_path: Path, toolkit: ScriptedToolkit) -> None:
    toolkit.fails_with = ToolkitFailed("the toolkit refused the model", kind="refused")
    nodes = [N("Constant", [], ["c"], value_floats=[1.0, 2.0]), N("Add", ["x", "c"], ["y"])]
    assert "Incompatible dimensions" in refusal(tmp_path, nodes)
    assert len(toolkit.requests) == 1, "onnxruntime refuses it, too: that settles it"


def test_an_opset_nobody_knows(tmp_path: Path) -> None:
    assert "999" in refusal(tmp_path, [N("Relu", ["x"], ["y"])], opset=999)


def test_missing_weights(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="none.bin")
    save(tmp_path, [N("Add", ["x", "w"], ["y"])], weights=[weight])
    result = CliRunner().invoke(command, [str(tmp_path / "m.onnx"), "--min-gain", "0"])
    assert result.exit_code == 2, result.output
    assert "none.bin" in result.stderr


def test_one_line_says_it_all(tmp_path: Path) -> None:
    save(tmp_path, [N("Add", ["x", "nowhere"], ["y"])])
    run = [sys.executable, "-m", "ort_rknn.cli", "convert", str(tmp_path / "m.onnx")]
    result = subprocess.run(run, capture_output=True, text=True)
    assert result.stderr.splitlines() == ["Error: the model is invalid: nothing makes 'nowhere', which Add reads"]


@pytest.mark.parametrize("place", [b"Sqrt", b"middle"])
def test_names_that_are_no_text(tmp_path: Path, place: bytes) -> None:
    save(tmp_path, [N("Sqrt", ["x"], ["middle"]), N("Relu", ["middle"], ["y"])])
    data = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(data.replace(place, place[:-1] + b"\x9e"))
    result = CliRunner().invoke(command, [str(tmp_path / "m.onnx"), "--plan-only"])
    assert result.exit_code == 2, result.output
    assert "the model is invalid: 'utf-8' codec can't decode byte 0x9e" in result.stderr


def test_weights_that_are_cut_off(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="short.bin")
    (tmp_path / "short.bin").write_bytes(bytes(23))
    save(tmp_path, [N("Add", ["x", "w"], ["y"])], weights=[weight])
    result = CliRunner().invoke(command, [str(tmp_path / "m.onnx"), "--min-gain", "0"])
    assert result.exit_code == 2, result.output
    assert "short.bin is cut off: w ends at byte 24 of 23" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    save(tmp_path, [N("Relu", ["x"], ["y"])])
    (tmp_path / "locked").mkdir(mode=0o555)
    out = tmp_path / "locked" / "out.onnx"
    result = CliRunner().invoke(command, [str(tmp_path / "m.onnx"), "-o", str(out), "--min-gain", "0"])
    assert result.exit_code == 2, result.output
    assert "Permission denied" in result.stderr


def test_a_target_of_the_environment_is_said_to_be_its(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"")
    for given, environment, said in (
        ([], {"ORT_RKNN_TARGET": "rk9999"}, "Error: environment variable ORT_RKNN_TARGET: unknown target 'rk9999'"),
        (["--target", "rk9998"], {"ORT_RKNN_TARGET": "rk9999"}, "Error: unknown target 'rk9998'"),
    ):
        result = CliRunner().invoke(command, [str(model), *given], env=environment)
        assert result.exit_code == 2
        assert result.output.startswith(said)
