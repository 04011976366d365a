"""``ort-rknn convert --on``: a shell stands in for ssh and the machine behind it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.cli.convert import command
from ort_rknn_converters.cli.remote import COMMAND_VARIABLE, SSH_VARIABLE, external_files

THERE = """#!{python}
import os, sys
print("table of", *sys.argv[3:4])
given = sys.argv[1:]
folder = os.path.dirname(given[1])
names = sorted(os.path.relpath(os.path.join(at, file), folder) for at, _, files in os.walk(folder) for file in files)
words = [word.replace(folder + "/", "IN/") for word in given[4:]]
if "--npu-only" in given:
    sys.exit("nodes are left")
open(given[given.index("-o") + 1], "w").write(repr((names, words)))
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ssh, there = tmp_path / "ssh", tmp_path / "there"
    ssh.write_text(
        '#!/bin/sh\n[ "$1" = away ] && exit 255\necho "$1" >"$(dirname "$0")/host"\nshift\nexec sh -c "$1"\n'
    )
    there.write_text(THERE.format(python=sys.executable))
    for file in (ssh, there):
        file.chmod(0o755)
    monkeypatch.setenv(SSH_VARIABLE, str(ssh))
    monkeypatch.setenv(COMMAND_VARIABLE, str(there))
    folder = tmp_path / "models"
    folder.mkdir()
    weights = numpy_helper.from_array(np.ones((4, 400), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 400])],
        [weights],
    )
    path = folder / "my model.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, location="the weights.bin")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)))


def test_the_files_go_there_and_the_result_comes_back(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cal").mkdir()
    (tmp_path / "cal" / "a b.npy").write_bytes(b"1")
    options = ("--int8", "--calibration", tmp_path / "cal", "--shape", "x=1x4", "--shape", "x=2x4", "--external")
    result = run(model, "--on", "me@pc", *options)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "host").read_text() == "me@pc\n"
    names, words = eval((model.parent / "my model.rknn.onnx").read_text())
    assert names == ["calibration/cal/a b.npy", "my model.onnx", "the weights.bin"]
    assert words[:2] == ["--precision", "int8"]
    assert words[words.index("--calibration") + 1] == "IN/calibration/cal"
    assert [words[at + 1] for at, word in enumerate(words) if word == "--shapes"] == ["x=1x4", "x=2x4"]
    assert "--external" in words
    assert "--on" not in words
    assert "table of -o" in result.output
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "my model.onnx",
        "my model.rknn.onnx",
        "the weights.bin",
    ]


def test_a_failure_there_is_ours(model: Path) -> None:
    result = run(model, "--on", "me@pc", "--npu-only")
    assert result.exit_code == 1
    assert not (model.parent / "my model.rknn.onnx").exists()


def test_a_machine_that_is_not_there(model: Path) -> None:
    result = run(model, "--on", "away")
    assert result.exit_code == 2
    assert "away cannot be reached" in result.output


def test_a_machine_without_the_command(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, "no-such-command")
    assert run(model, "--on", "me@pc").exit_code == 127


@pytest.mark.parametrize("host", ["-oProxyCommand=x", " "])
def test_a_host_is_no_option(model: Path, host: str) -> None:
    result = run(model, f"--on={host}")
    assert result.exit_code == 2
    assert "takes what ssh takes" in result.output


def test_no_ssh(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SSH_VARIABLE, "/no/such/ssh")
    assert "/no/such/ssh cannot be started" in run(model, "--on", "me@pc").output


def test_weights_are_found_by_their_places(model: Path, tmp_path: Path) -> None:
    assert external_files(model) == ["the weights.bin"]
    (tmp_path / "x.onnx").write_bytes(b"no model")
    assert external_files(tmp_path / "x.onnx") == []


def test_the_environment_s_target_goes_there_as_an_option(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_RKNN_TARGET", "rk3566")
    out = tmp_path / "out.onnx"
    assert run(model, "--on", "pc", "-o", out).exit_code == 0
    assert "--target', 'rk3566'" in out.read_text()
    assert run(model, "--on", "pc", "-o", out, "--target", "rk3576").exit_code == 0
    assert "rk3566" not in out.read_text()


@pytest.mark.parametrize("name", [".bashrc", "../x.onnx", "other.onnx", "/tmp/x.onnx"])
def test_another_machine_writes_nothing_but_the_output(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    evil = tmp_path / "evil"
    evil.write_text(
        f"#!{sys.executable}\nimport io, sys, tarfile\n"
        "archive = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')\n"
        f"member = tarfile.TarInfo({name!r})\nmember.size = 1\n"
        "archive.addfile(member, io.BytesIO(b'x'))\narchive.close()\n"
    )
    evil.chmod(0o755)
    monkeypatch.setenv(SSH_VARIABLE, str(evil))
    before = sorted(tmp_path.rglob("*"))
    result = run(model, "--on", "pc", "-o", tmp_path / "models" / "c.rknn.onnx")
    assert result.exit_code == 2
    assert f"pc sent {name}" in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_what_another_machine_says_is_shown(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    there.write_text(
        THERE.format(python=sys.executable).replace('print("table of"', 'print("\\x1b[2J\\u202e" + "y" * 50_000')
    )
    result = run(model, "--on", "pc", "-o", tmp_path / "models" / "c.onnx")
    assert result.exit_code == 0, result.output
    assert "\\x1b[2J\\u202e" in result.output
    assert "y" * 50_000 in result.output
    assert "\x1b" not in result.output
