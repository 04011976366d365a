"""``session.disable_model_compile``: what is not compiled yet is refused as onnxruntime refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state

import ort_rknn
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import CONVERT, fake_toolkit

CPU, RKNN = "CPUExecutionProvider", "RKNNExecutionProvider"
A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
REFUSAL = (
    "[ONNXRuntimeError] : 13 : MODEL_REQUIRES_COMPILATION : "
    "User disabled EP compilation but EP 'RKNNExecutionProvider' needs to compile one or more nodes."
)

pytestmark = pytest.mark.skipif(
    not hasattr(state, "ModelRequiresCompilation"), reason="this onnxruntime does not know the wish"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Iterator[Path]:
    with fake_toolkit(tmp_path / "cache"):
        yield tmp_path / "cache"


def _open(content: bytes, wish: str = "1", **options: Any) -> Any:
    settings = ort_rknn.SessionOptions()
    settings.add_session_config_entry("session.disable_model_compile", wish)
    providers = [(RKNN, {"device": "simulator", "min_gain": 0, **options}), CPU]
    return ort_rknn.InferenceSession(content, settings, providers=providers)


@pytest.mark.parametrize("compile", ["auto", "load", "background"])
def test_what_would_be_compiled_is_refused(compile: str) -> None:
    with (
        mock.patch.object(CONVERT, "compile_segment", side_effect=AssertionError("compiled")),
        pytest.raises(state.ModelRequiresCompilation) as error,
    ):
        _open(model("two"), compile=compile)
    assert str(error.value) == REFUSAL


@pytest.mark.parametrize("compile", ["auto", "load", "background"])
def test_what_was_compiled_opens(compile: str) -> None:
    _open(model("two"), "0")
    session = _open(model("two"), compile=compile)
    assert session.get_providers() == [RKNN, CPU]
    np.testing.assert_array_equal(session.run(["K"], {"A": A, "B": A})[0], A @ np.array([[1, 2], [-1, 3]], np.float32))


def test_what_is_all_for_the_cpu_opens() -> None:
    session = _open(model("two"), cpu_ops="MatMul,Relu,Add")
    assert session.get_providers() == [CPU]
    assert session.run(["K"], {"A": A, "B": A})[0].shape == (3, 2)


def test_never_compiling_needs_no_compilation() -> None:
    assert _open(model("two"), compile="never").get_providers() == [CPU]


def test_open_shapes_are_refused_and_not_left_for_later() -> None:
    with pytest.raises(state.ModelRequiresCompilation) as error:
        _open(model("dynamic"))
    assert str(error.value) == REFUSAL
    session = _open(model("dynamic"), cpu_ops="MatMul,Relu,Add,Mul,Identity")
    assert session.run(["Y"], {"X": A})[0].shape == (3, 2)
    assert "compiling" not in str(session.plan)


def test_listed_shapes_have_to_be_in_the_cache() -> None:
    listed = {"shapes": "X=3x2;5x2"}
    with pytest.raises(state.ModelRequiresCompilation):
        _open(model("dynamic"), **listed)
    _open(model("dynamic"), "0", **listed)
    session = _open(model("dynamic"), **listed)
    assert [one.state for one in session.shape_states] == ["ready", "ready"]


def test_a_bad_model_is_still_onnxruntimes_to_refuse() -> None:
    with pytest.raises(state.InvalidProtobuf):
        _open(b"garbage")


def test_the_default_list_of_providers_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ort_rknn.SessionOptions()
    settings.add_session_config_entry("session.disable_model_compile", "1")
    session = ort_rknn.InferenceSession(model("two"), settings, providers=[CPU])
    assert session.get_providers() == onnxruntime.InferenceSession(model("two"), settings).get_providers()
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    with (
        mock.patch("ort_rknn_converters.partition.partition._does_not_pay", return_value=""),
        pytest.raises(state.ModelRequiresCompilation),
    ):
        ort_rknn.InferenceSession(model("two"), settings)
