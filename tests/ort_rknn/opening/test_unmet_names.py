"""Names that a model does not have are refused, or warned of; those of the configuration file are for all models."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ort_rknn.errors import InvalidOption

Open = Callable[..., Any]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dynamic", {"dims": {"M": 3}}, "the option dims names 'M', and the model has no dimension of that name"),
        ("two", {"dims": "batch=3"}, "it has none that is named"),
        (
            "two",
            {"shapes": {"C": (1, 2)}},
            "the option shapes names 'C', and the model has no input of that name; it has A",
        ),
        ("two", {"cpu_nodes": "nonsense"}, "the option cpu_nodes names 'nonsense', and the model has no node of that"),
        ("two", {"cpu_nodes": "a;b"}, "Names are separated by commas"),
        (
            "two",
            {"cpu_ops": "MatMull"},
            "the option cpu_ops names 'MatMull', and neither the model nor ONNX knows an op",
        ),
        ("two", {"dims": "a=1,b=2"}, "must be a mapping of dimension name to size"),
        ("two", {"shapes": "A=3x2,B=3x2"}, "must be a mapping of input name"),
    ],
)
def test_a_name_that_meets_nothing_is_refused(
    name: str, options: dict[str, Any], message: str, npu_session: Open
) -> None:
    with pytest.raises(InvalidOption) as caught:
        npu_session(name, **options)
    assert message in str(caught.value)


def test_close_names_are_offered(npu_session: Open) -> None:
    with pytest.raises(InvalidOption, match="did you mean MatMul"):
        npu_session("two", cpu_ops="MatMull")


def test_an_op_of_other_models_is_only_warned_of(npu_session: Open, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        npu_session("two", cpu_ops="LSTM")
    assert "the option cpu_ops names LSTM, which the model does not have" in caplog.text


def test_what_the_file_says_is_for_all_models(
    npu_session: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("dims = { batch = 1 }\ncpu_ops = ['LSTM', 'Other']\ncpu_nodes = ['head']\n")
    monkeypatch.setenv("ORT_RKNN_CONFIG", str(file))
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        npu_session("two")
    assert not caplog.text


def test_names_that_meet_something(npu_session: Open, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        npu_session("dynamic", dims={"N": 3})
        npu_session("dynamic", shapes={"X": (3, 2)})
    assert not caplog.text


def test_with_open_shapes_an_unknown_node_is_warned_of(npu_session: Open, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        npu_session("dynamic", cpu_nodes="later", compile="never")
    assert "the option cpu_nodes names 'later'" in caplog.text
    assert "unless preparing the model makes one" in caplog.text
