"""``SessionOptions``: onnxruntime's own, that remembers what it cannot be asked."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from ort_rknn.ort_types.session_options import clone, config_entry
from tests.helpers.ort_models import model

NATIVE = onnxruntime.capi._pybind_state.SessionOptions


def test_native_objects_count_as_instances() -> None:
    class Mine(ort_rknn.SessionOptions):
        pass

    session = onnxruntime.InferenceSession(model("two"), providers=["CPUExecutionProvider"])
    assert isinstance(session.get_session_options(), ort_rknn.SessionOptions)
    assert isinstance(Mine(), ort_rknn.SessionOptions)
    assert isinstance(Mine(), NATIVE)
    assert not isinstance(NATIVE(), Mine)
    assert not isinstance(3, ort_rknn.SessionOptions)


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(AttributeError):
        ort_rknn.SessionOptions().intra_op_num_thread = 1


def test_clones_are_complete_and_apart() -> None:
    options = ort_rknn.SessionOptions()
    options.intra_op_num_threads = 3
    options.add_session_config_entry("a", "b")
    options.add_free_dimension_override_by_name("N", 3)
    copy = clone(options)
    copy.intra_op_num_threads = 1
    assert (options.intra_op_num_threads, config_entry(copy, "a"), config_entry(copy, "c")) == (3, "b", "")
    shape = onnxruntime.InferenceSession(model("dynamic"), copy).get_inputs()[0].shape
    assert shape == [3, 2]
    assert config_entry(None, "a") == ""
    assert clone(None).intra_op_num_threads == 0


def test_cloning_leaves_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ort_rknn.SessionOptions()
    options.enable_profiling = True
    copy = clone(options)
    gc.collect()
    assert (options.enable_profiling, copy.enable_profiling, list(tmp_path.iterdir())) == (True, True, [])


def test_replaced_weights_stay_alive() -> None:
    options = ort_rknn.SessionOptions()
    options.add_initializer("W", ort_rknn.OrtValue.ortvalue_from_numpy(np.eye(2, dtype=np.float32)))
    gc.collect()
    a = np.ones((3, 2), np.float32)
    session = ort_rknn.InferenceSession(model("two"), options, providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(["K"], {"A": a, "B": a})[0], a)
