"""Options in a file: both formats, and one-line refusals; the command line wins over the file."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from onnx import helper
from onnx.parser import parse_graph

from ort_rknn_converters.cli.convert import command
from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.options_file import read_options


def test_both_formats(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text('target = "rk3566"\ncpu_nodes = ["a", "b/c"]\n[shapes]\n"x:0" = [1, 3]\n')
    (tmp_path / "o.json").write_text('{"target": "rk3566", "cpu_nodes": ["a", "b/c"], "shapes": {"x:0": [1, 3]}}')
    for name in ("o.toml", "o.json"):
        options = ConvertOptions.of(**read_options(tmp_path / name))
        assert options.target == "rk3566"
        assert options.cpu_nodes == {"a", "b/c"}
        assert dict(options.shapes) == {"x:0": (1, 3)}


def test_several_shapes(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text("shapes = {x = [[1, 3], [2, 3]]}")
    assert read_options(tmp_path / "o.toml") == {"shapes": {"x": [[1, 3], [2, 3]]}}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("o.toml", "target = ", "is no TOML"),
        ("o.json", "{", "is no JSON"),
        ("o.json", "[]", "holds no options but a list"),
        ("o.toml", "cpu_node = ['a']", "unknown option cpu_node. Known options: target"),
        ("o.toml", "cpu_ops = 'Relu'", "cpu_ops is a list of names, not 'Relu'"),
        ("o.toml", "cpu_nodes = [1]", "cpu_nodes is a list of names"),
        ("o.toml", "target = 3588", "target is a text, not 3588"),
        ("o.toml", "preprocess = [224]", "preprocess is a text"),
        ("o.toml", "shapes = [1, 3]", "shapes is a shape, or a list of them, by the name of each input"),
        ("o.json", '{"shapes": {"x": [1, "a"]}}', "shapes is a shape"),
        ("o.toml", "dims = {N = true}", "dims is a size by the name of each dimension"),
        ("none.toml", None, "No such file"),
    ],
)
def test_refusals(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UnknownOption, match=said):
        read_options(tmp_path / name)


def _places(*arguments: object) -> tuple[str, dict[str, str]]:
    result = CliRunner().invoke(command, [str(argument) for argument in (*arguments, "--plan-only", "--json")])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)["plan"]
    return plan["target"], {node["name"]: node["place"] for node in plan["nodes"]}


def test_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path / "cache"))
    graph = parse_graph("g (float[2,8] x) => (float[2,8] y) { [one] a = Relu (x) [two] y = Sigmoid (a) }")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    file = tmp_path / "o.toml"
    file.write_text('target = "rk3566"\ncpu_nodes = ["one"]\nmin_gain = 0.0\n')
    assert _places(tmp_path / "m.onnx", "--options", file) == ("rk3566", {"one": "CPU", "two": "NPU"})
    target, places = _places(tmp_path / "m.onnx", "--options", file, "--target", "rk3576", "--cpu-node", "two")
    assert (target, places) == ("rk3576", {"one": "CPU", "two": "CPU"})
    (tmp_path / "bad.toml").write_text("nonsense = 1")
    result = CliRunner().invoke(command, [str(tmp_path / "m.onnx"), "--options", str(tmp_path / "bad.toml")])
    assert result.exit_code == 2
    assert "unknown option nonsense" in result.stderr
