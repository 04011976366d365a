"""``ort-rknn convert`` with several shapes and several SoCs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ort_rknn_converters.cli.convert import command
from ort_rknn_converters.compiled.bundle import Bundle
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import fake_toolkit


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(model("dynamic"))
    with fake_toolkit(tmp_path / "cache"):
        yield


def _convert(*arguments: str) -> Any:
    return CliRunner().invoke(command, ["m.onnx", "--min-gain", "0", *arguments])


def test_shapes_and_socs_in_one_file() -> None:
    done = _convert("--shape", "X=3x2", "--shape", "X=5x2", "--target", "rk3588,rk3576")
    assert done.exit_code == 0, done.output
    assert "rk3588, rk3576 X=3x2" in done.output
    bundle = Bundle.load("m.rknn.onnx")
    assert [(one.shapes["X"], one.targets) for one in bundle.variants] == [
        ((3, 2), ("rk3588", "rk3576")),
        ((5, 2), ("rk3588", "rk3576")),
    ]


def test_as_json_and_as_a_plan() -> None:
    done = _convert("--shape", "X=3x2", "--shape", "X=5x2", "--json")
    rows = json.loads(done.stdout)["variants"]
    assert [row["shapes"] for row in rows] == [{"X": [3, 2]}, {"X": [5, 2]}]
    assert all(row["plan"]["segments"] for row in rows)
    Path("m.rknn.onnx").unlink()
    done = _convert("--shape", "X=3x2", "--shape", "X=5x2", "--plan-only")
    assert done.exit_code == 0
    assert "X float32[5x2]" in done.output
    done = _convert("--shape", "X=3x2", "--shape", "X=5x2", "--plan-only", "--json")
    rows = json.loads(done.stdout)["variants"]
    assert [(row["shapes"], row["targets"]) for row in rows] == [
        ({"X": [3, 2]}, ["rk3588"]),
        ({"X": [5, 2]}, ["rk3588"]),
    ]
    assert not Path("m.rknn.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shape", "X=1;2"), "NAME=VALUE"),
        (
            ("--shape", "X=3x2", "--shape", "X=4x2", "--shape", "Q=1", "--shape", "Q=2", "--shape", "Q=3"),
            "equally many",
        ),
        (("--shape", "X=3x2", "--shape", "X=4x9"), "declares"),
        (("--target", "rk3588,abacus"), "abacus"),
        (("--value", "X=1,half"), "values['X'] is a number"),
        (("--shape", "X=3x2", "--value", "X=[[1,2,3]],[[1,2]]"), "values['X'] has shape [1, 3], and the input"),
        (("--value", "X=1,2", "--value", "Y=1,2,3"), "equally many"),
        (("--shape", "X=1x2", "--value", "X=1,2", "--plugin"), "--plugin takes one value and got 2"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(arguments: tuple[str, ...], said: str) -> None:
    done = _convert(*arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert not Path("m.rknn.onnx").exists()


def test_values_in_one_file() -> None:
    done = _convert("--shape", "X=1x2", "--value", "X=0.5,[[1,2]]", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["variants"]
    assert [(row["shapes"], row["values"]) for row in rows] == [({"X": [1, 2]}, {"X": one}) for one in (0.5, [[1, 2]])]
    assert [one.values for one in Bundle.load("m.rknn.onnx").variants] == [{"X": "0.5"}, {"X": "[[1, 2]]"}]


def test_values_and_shapes_of_a_file_of_options() -> None:
    Path("o.toml").write_text("[shapes]\nX = [[1, 2], [3, 2]]\n[values]\nX = [0.5, 2]\n")
    done = _convert("--options", "o.toml", "--plan-only", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["variants"]
    assert [(row["shapes"]["X"], row["values"]["X"]) for row in rows] == [
        ([size, 2], value) for size in (1, 3) for value in (0.5, 2)
    ]
