"""The ONNX standard's Backend interface."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest

from tests.helpers.ort_models import MODELS, model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # onnxruntime's backend uses what onnx has deprecated
    from onnxruntime.backend import backend as ort_backend

    from ort_rknn import backend

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)


def test_prepare_takes_every_form() -> None:
    for source in (model("two"), MODELS["two"]()):
        rep = backend.prepare(source, "CPU")
        assert rep.run([A, A])[0].shape == (3, 2)
        assert backend.prepare(rep) is rep
    assert backend.run(model("dynamic"), A)[0].shape == (3, 2)


def test_sessions_are_ours() -> None:
    import ort_rknn

    assert isinstance(backend.prepare(model("two"))._session, ort_rknn.InferenceSession)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_RKNN_DEVICE", raising=False)
    assert backend.supports_device("CPU")
    assert not backend.supports_device("NPU")
    assert not backend.supports_device("CUDA")
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    assert backend.supports_device("NPU")
    with pytest.raises(RuntimeError, match="Incompatible device expected 'CUDA', got 'CPU'"):
        backend.prepare(model("two"), "CUDA")


@pytest.mark.skipif(not hasattr(ort_backend, "_ALLOWED_SESSION_OPTIONS"), reason="this onnxruntime refuses none")
def test_options_that_write_files_are_refused() -> None:
    backend.prepare(model("two"), intra_op_num_threads=1, nonsense=3)
    with pytest.raises(RuntimeError, match="'enable_profiling' is not permitted"):
        backend.prepare(model("two"), enable_profiling=True)


def test_an_invalid_model_is_refused() -> None:
    broken = MODELS["two"]()
    broken.graph.node[0].op_type = "Nope"
    with pytest.raises(onnx.checker.ValidationError):
        backend.prepare(broken)


def test_the_standards_runner_drives_it() -> None:
    import unittest

    from onnx.backend.test import BackendTest

    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the standard's own cases
        tests = BackendTest(backend, __name__)
        tests.include(r"test_(relu|matmul_2d|conv_with_strides_padding)_cpu")
        load = unittest.defaultTestLoader.loadTestsFromTestCase
        unittest.TestSuite(load(case) for case in tests.test_cases.values()).run(result)
    assert result.testsRun - len(result.skipped) == 3
    # onnxruntime itself refuses the cases of a newer onnx than it knows.
    assert [text for _, text in result.failures + result.errors if "official support" not in text] == []
