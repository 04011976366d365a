"""Bindings on sessions with an NPU part: what onnxruntime's own class cannot, and where ours is better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ort_rknn

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
K = A @ np.float32([[1, 2], [-1, 3]])

Open = Callable[..., Any]


def _bind(binding: Any) -> Any:
    binding.bind_cpu_input("A", A)
    binding.bind_cpu_input("B", A)
    binding.bind_output("K")
    return binding


def test_asking_before_the_first_run_is_an_error_not_a_crash(npu_session: Open) -> None:
    with pytest.raises(RuntimeError, match="run the session with this binding first"):
        _bind(npu_session().io_binding()).copy_outputs_to_cpu()


def test_a_binding_of_onnxruntimes_own_class_says_what_to_use(npu_session: Open) -> None:
    session = npu_session()
    with pytest.raises(RuntimeError, match=r"session\.io_binding\(\) or ort_rknn\.IOBinding\(session\)"):
        session.run_with_iobinding(_bind(onnxruntime.IOBinding(session)))


def test_the_native_way_works_too(npu_session: Open) -> None:
    session = npu_session()
    binding = ort_rknn.SessionIOBinding(session._sess)
    binding.bind_input("A", A)
    binding.bind_input("B", A)
    cpu = onnxruntime.OrtDevice.make("cpu", 0)._get_c_device()
    binding.bind_output("K", cpu)
    session._sess.run_with_iobinding(binding, None)
    assert np.array_equal(binding.copy_outputs_to_cpu()[0], K)


def test_outputs_with_memory_are_written_in_place(npu_session: Open) -> None:
    session = npu_session()
    binding = session.io_binding()
    out = np.zeros((3, 2), np.float32)
    binding.bind_cpu_input("A", A)
    binding.bind_cpu_input("B", A)
    binding.bind_output("K", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    session.run_with_iobinding(binding)
    assert np.array_equal(out, K)
    value = ort_rknn.OrtValue.ortvalue_from_shape_and_type([3, 2], np.float32)
    binding.bind_ortvalue_output("K", value)
    session.run_with_iobinding(binding)
    assert np.array_equal(value.numpy(), K)


def test_a_second_run_reuses_the_outputs_memory(npu_session: Open) -> None:
    session = npu_session()
    binding = _bind(session.io_binding())
    session.run_with_iobinding(binding)
    first = binding.get_outputs()[0].data_ptr()
    session.run_with_iobinding(binding)
    assert binding.get_outputs()[0].data_ptr() == first  # as onnxruntime does


def test_dynamic_shapes_do_not_fit_a_reused_output(npu_session: Open) -> None:
    session = npu_session("dynamic", dims={"N": 3})
    binding = session.io_binding()
    binding.bind_cpu_input("X", A)
    binding.bind_output("Y")
    session.run_with_iobinding(binding)
    binding.bind_cpu_input("X", A[:2])
    with pytest.raises(RuntimeError, match=r"has shape \{3,2\} but the computed output shape for this run is \{2,2\}"):
        session.run_with_iobinding(binding)
    binding.bind_output("Y")
    session.run_with_iobinding(binding)
    assert binding.copy_outputs_to_cpu()[0].shape == (2, 2)


def test_results_outlive_everything(npu_session: Open) -> None:
    session = npu_session()
    values = session.run_with_ort_values(
        ["K"], {name: ort_rknn.OrtValue.ortvalue_from_numpy(A.copy()) for name in ("A", "B")}
    )
    junk = [np.full((3, 2), 99, np.float32) for _ in range(100)]
    assert np.array_equal(values[0].numpy(), K)
    assert len(junk) == 100
