"""``ort-rknn info``, as a user runs it."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper
from rich.console import Console

from ort_rknn_converters.cli.info import command
from ort_rknn_converters.cli.tables import draw_table
from ort_rknn_converters.compiled.bundle import Bundle, Variant
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.onnx_file.blobs import FileBlob
from tests.helpers import compiled_models
from tests.helpers.toolkits import real as models

FOLDER = Path(__file__).resolve().parents[2] / "data" / "rknn"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_a_bare_rknn_file() -> None:
    result = run(FOLDER / "image_int8_rk3588.rknn")
    assert result.exit_code == 0, result.output
    for words in ("rk3588 (RKNPU v2)", "2.5.0", "int8", "NHWC", "ConvRelu", "NPU", "zero", "on the NPU"):
        assert words in result.output
    assert "Tensors" not in result.output
    assert "Tensors" in run(FOLDER / "image_int8_rk3588.rknn", "--tensors").output


def test_several_shapes_and_a_custom_string() -> None:
    result = run(FOLDER / "formats_dynamic_rk3588.rknn")
    assert "2x3x4x4 | 1x3x4x4" in result.output
    assert "Nodes for shapes 2 of 2" in result.output
    assert "größer" in result.output


def test_the_mini_format_says_what_is_missing() -> None:
    result = run(FOLDER / "formats_int8_rv1106.rknn")
    assert result.exit_code == 0
    assert "not read" in result.output


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.rknn")), ids=lambda path: path.stem)
def test_json_of_a_bare_rknn_file(path: Path) -> None:
    data = json.loads(run(path, "--json").output)
    assert data["kind"] == "rknn"
    assert data["target"] in path.stem
    assert data["inputs"][0]["name"]


def test_a_plain_onnx_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.conv()[0])
    result = run(path)
    assert result.exit_code == 0
    assert "ONNX model, not compiled" in result.output
    assert "1x3x8x8" in result.output
    data = json.loads(run(path, "--json").output)
    assert data["kind"] == "onnx"
    assert data["ops"] == {"Conv": 1, "Relu": 1}
    assert data["inputs"] == [{"name": "x", "dtype": "float", "shape": [1, 3, 8, 8]}]
    assert data["opsets"] == {"ai.onnx": 17}


def test_a_compiled_model(tmp_path: Path) -> None:
    path = tmp_path / "model.rknn.onnx"
    compiled = compiled_models.sample(("rk3588", "rk3576"))
    compiled.save(path)
    result = run(path)
    assert result.exit_code == 0, result.output
    for words in ("rk3588, rk3576", "npu_0", "ONNX inside", "not a .rknn file"):  # the sample's code is random bytes
        assert words in result.output
    data = json.loads(run(path, "--json").output)
    assert data["kind"] == "compiled"
    (form,) = data["forms"]
    assert form["plan"] == json.loads(compiled.plan.to_json())
    assert {code["target"] for code in form["code"]} == {"rk3588", "rk3576"}


def _with_real_code(name: str) -> CompiledModel:
    """A compiled model whose code is a real file of the vendor's toolkit (of some other model)."""
    compiled = compiled_models.sample(("rk3588",))
    code = {"rk3588": FileBlob(str(FOLDER / name))}
    steps = tuple(step if step.kind == "cpu" else replace(step, code=code) for step in compiled.steps)
    return replace(compiled, steps=steps)


def test_the_code_inside_a_compiled_model(tmp_path: Path) -> None:
    path = tmp_path / "model.rknn.onnx"
    compiled = _with_real_code("image_int8_rk3588.rknn")
    compiled.save(path)
    text = run(path).output
    nodes = [node.name for node in compiled.plan.nodes]
    for words in ("What the device sees", "NHWC", "zero -128", "on the NPU", "(40,000 characters)", *nodes):
        assert words in text
    assert "ConvRelu" not in text
    assert "ConvRelu" in run(path, "--nodes").output
    assert "Tensors" in run(path, "--tensors").output


def test_every_form_of_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "model.rknn.onnx"
    forms = ((8, "image_int8_rk3588.rknn"), (16, "formats_dynamic_rk3588.rknn"))
    Bundle(tuple(Variant.of({"x": (1, 4, size, size)}, _with_real_code(name)) for size, name in forms)).save(path)
    text = run(path).output
    for words in (
        "2 forms",
        "Form 1 of 2: rk3588, x=1x4x8x8",
        "Form 2 of 2: rk3588, x=1x4x16x16",
        "größer",
        "zero -128",
    ):
        assert words in text
    data = json.loads(run(path, "--json").output)
    assert [form["shapes"] for form in data["forms"]] == [{"x": [1, 4, 8, 8]}, {"x": [1, 4, 16, 16]}]
    assert "größer" in data["forms"][1]["code"][0]["rknn"]["custom_string"]


@pytest.mark.parametrize("content", [b"", b"hello", b"RKNN\0\0\0\0" + b"\xff" * 100, bytes(100)])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    result = run(path)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert "model.bin" in result.output


def test_missing_file() -> None:
    result = run("/nowhere/model.onnx")
    assert result.exit_code == 2
    assert "Error: /nowhere/model.onnx: No such file" in result.output


def test_a_type_nobody_knows(tmp_path: Path) -> None:
    graph = helper.make_graph([], "g", [helper.make_tensor_value_info("x", 1, [2])], [])
    graph.input[0].type.tensor_type.elem_type = 99
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    result = run(tmp_path / "m.onnx")
    assert result.exit_code == 0, result.output
    assert "type 99" in result.output


def test_tables_leave_out_what_is_empty() -> None:
    console = Console(file=io.StringIO(), width=80)
    draw_table(console, "Nothing", ("a",), [])
    draw_table(console, "Code", ("name", "string", "size"), [("[x]", "", 0), ("y", "", 1)])
    assert isinstance(console.file, io.StringIO)
    title, head, _, *rows = console.file.getvalue().strip().splitlines()
    assert (title, head.split()) == ("Code", ["name", "size"])
    assert [row.split() for row in rows] == [["[x]", "0"], ["y", "1"]]


HOSTILE = "\x1b[2J\x9b31m\u202e\n# forged\r[red]x[/red] [link=http://a.example]l[/link]"


@pytest.mark.parametrize("more", [(), ("--json",), ("--nodes",)])
def test_names_of_strangers_are_shown_and_control_nothing(tmp_path: Path, more: tuple[str, ...]) -> None:
    made = compiled_models.sample()
    stub = onnx.ModelProto.FromString(made.stub.read())
    stub.metadata_props.add(key=HOSTILE, value=HOSTILE)
    stub.graph.input[0].doc_string = HOSTILE
    file = replace(made, stub=type(made.stub)(stub.SerializeToString())).save(tmp_path / "m.onnx")[0]
    result = run(file, *more)
    assert result.exit_code == 0, result.output
    assert not any(sign in result.output for sign in "\x1b\x9b\u202e\r")
    assert "\n# forged" not in result.output
    assert "[red]x" in result.output  # and is no colour


@pytest.mark.timeout(20)
def test_a_pipe_and_a_name_with_codes_are_refused_in_one_line(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe\x9b2J\u202e.onnx"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path / "none\x9b2J\u202e.onnx"):
        result = run(path)
        assert result.exit_code == 2
        assert "\x9b" not in result.output
        assert "\\x9b2J\\u202e" in result.output
