"""Cases: I/O bindings."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.ort_models import model
from tests.helpers.parity import Bench, case, cases

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
B = np.arange(6, dtype=np.float32).reshape(3, 2)


def _values(t: Bench, **arrays: Any) -> dict[str, Any]:
    return {name: t.ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}


def _bound(bind: Any, name: str = "two") -> Any:
    def run(t: Bench) -> Any:
        session = t.open(model(name))
        binding = session.io_binding()
        kept = bind(binding, t)
        session.run_with_iobinding(binding)
        return [binding.copy_outputs_to_cpu(), [value.numpy() for value in binding.get_outputs()], kept]

    return run


def _inputs(binding: Any, a: Any = A, b: Any = B) -> None:
    binding.bind_cpu_input("A", a)
    binding.bind_cpu_input("B", b)


def _plain(binding: Any, t: Bench) -> None:
    _inputs(binding)
    binding.bind_output("K")
    binding.bind_output("Y")


def _one_output(binding: Any, t: Bench) -> None:
    _inputs(binding)
    binding.bind_output("Y", "cpu")


def _ort_values(binding: Any, t: Bench) -> Any:
    for name, value in _values(t, A=A, B=B).items():
        binding.bind_ortvalue_input(name, value)
    out = t.ort.OrtValue.ortvalue_from_shape_and_type([3, 2], np.float32)
    binding.bind_ortvalue_output("Y", out)
    return out


def _pointers(binding: Any, t: Bench) -> Any:
    out = np.zeros((3, 2), np.float32)
    binding.bind_input("A", "cpu", 0, np.float32, A.shape, A.ctypes.data)
    binding.bind_input("B", "cpu", 0, 1, B.shape, B.ctypes.data)
    binding.bind_output("Y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    return out


def _fortran(binding: Any, t: Bench) -> None:
    _inputs(binding, np.asfortranarray(A))
    binding.bind_output("Y")


def _wrong_dtype(binding: Any, t: Bench) -> None:
    _inputs(binding, A.astype(np.float64))
    binding.bind_output("Y")


def _wrong_dims(binding: Any, t: Bench) -> None:
    _inputs(binding, A[:2])
    binding.bind_output("Y")


def _wrong_output_dims(binding: Any, t: Bench) -> Any:
    _inputs(binding)
    out = np.zeros((2, 2), np.float32)
    binding.bind_output("Y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    return out


def _wrong_output_dtype(binding: Any, t: Bench) -> Any:
    _inputs(binding)
    out = np.zeros((3, 2), np.int64)
    binding.bind_output("Y", "cpu", 0, np.int64, out.shape, out.ctypes.data)
    return out


def _no_output(binding: Any, t: Bench) -> None:
    _inputs(binding)


def _unknown_output(binding: Any, t: Bench) -> None:
    _inputs(binding)
    binding.bind_output("Q")


def _unknown_input(binding: Any, t: Bench) -> None:
    binding.bind_cpu_input("Q", A)


def _list_input(binding: Any, t: Bench) -> None:
    binding.bind_cpu_input("A", A.tolist())


def _half_pointer(binding: Any, t: Bench) -> None:
    binding.bind_output("Y", buffer_ptr=A.ctypes.data)


def _tpu(binding: Any, t: Bench) -> None:
    binding.bind_output("Y", "tpu")


def _cuda(binding: Any, t: Bench) -> None:
    _inputs(binding)
    binding.bind_output("Y", "cuda")


def _cleared(binding: Any, t: Bench) -> None:
    _plain(binding, t)
    binding.clear_binding_outputs()
    binding.clear_binding_inputs()
    _one_output(binding, t)


def _synchronized(binding: Any, t: Bench) -> None:
    _plain(binding, t)
    binding.synchronize_inputs()
    binding.synchronize_outputs()


cases(
    "binding",
    {
        bind.__name__.strip("_"): _bound(bind)
        for bind in (
            _plain,
            _one_output,
            _ort_values,
            _pointers,
            _fortran,
            _wrong_dtype,
            _wrong_dims,
            _wrong_output_dims,
            _wrong_output_dtype,
            _no_output,
            _unknown_output,
            _unknown_input,
            _list_input,
            _half_pointer,
            _tpu,
            _cuda,
            _cleared,
            _synchronized,
        )
    },
)


@case
def binding_class(t: Bench) -> Any:
    session = t.open(model("two"))
    binding = t.ort.IOBinding(session)
    _plain(binding, t)
    session.run_with_iobinding(binding)
    return [isinstance(session.io_binding(), t.ort.IOBinding), binding.copy_outputs_to_cpu()]


@case
def binding_is_live(t: Bench) -> Any:
    session = t.open(model("two"))
    binding, array = session.io_binding(), A.copy()
    _inputs(binding, array)
    binding.bind_output("K")
    results = []
    for factor in (1, 2):
        array *= factor
        session.run_with_iobinding(binding)
        results.append([value.copy() for value in binding.copy_outputs_to_cpu()])
    return results


@case
def binding_of_another_session(t: Bench) -> Any:
    one, other = t.open(model("two")), t.open(model("two"))
    binding = one.io_binding()
    _plain(binding, t)
    other.run_with_iobinding(binding)


@case
def binding_after_set_providers(t: Bench) -> Any:
    session = t.open(model("two"))
    binding = session.io_binding()
    session.set_providers(["CPUExecutionProvider"])
    session.run_with_iobinding(binding)


@case
def binding_with_terminate(t: Bench) -> Any:
    session = t.open(model("two"))
    binding = session.io_binding()
    _plain(binding, t)
    options = t.ort.RunOptions()
    options.terminate = True
    session.run_with_iobinding(binding, options)


@case
def binding_mixed_model(t: Bench) -> Any:
    session = t.open(model("mixed"))
    binding = session.io_binding()
    binding.bind_cpu_input("X", np.arange(-16, 16, dtype=np.float32).reshape(1, 2, 4, 4))
    binding.bind_output("P")
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()
