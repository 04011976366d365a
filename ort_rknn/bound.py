"""Runs a session with an NPU part over an I/O binding.

onnxruntime's native binding cannot be asked what was bound to it, so ours (:mod:`ort_rknn.iobinding`) writes it down.
Outputs that have memory are written into; the others get the result bound, where onnxruntime's own calls find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.capi import _pybind_state as C

from ort_rknn.ort_errors import status_text

if TYPE_CHECKING:
    from ort_rknn.npu_session import NpuSession

__all__ = ["run_bound", "to_ort_value"]

_IN_THE_SHELL = "while running"  # a kernel of the shell failed: the binding itself was found good


def run_bound(session: NpuSession, judge: Callable[[Any, Any], None], binding: Any, run_options: Any) -> None:
    """Run once.

    Args:
        session: The session.
        judge: Runs the shell natively over a binding: raises what onnxruntime raises.
        binding: An :class:`ort_rknn.iobinding.SessionIOBinding`.
        run_options: onnxruntime's ``RunOptions`` or ``None``.

    Raises:
        RuntimeError: Everything that is wrong with the binding, in onnxruntime's words.
    """
    record = getattr(binding, "rknn_record", None)
    if record is None:
        raise RuntimeError(
            "Error in execution: this binding was made by onnxruntime's own class, which cannot be read. "
            "Make it with session.io_binding() or ort_rknn.IOBinding(session)."
        )
    try:
        judge(record.replay(C.SessionIOBinding(session)), run_options)
    except RuntimeError as error:
        if _IN_THE_SHELL not in str(error):
            raise
    names = list(record.outputs)
    try:
        results = session.run(names, record.feed(session.input_dtypes), run_options)
    except Exception as error:
        text = status_text(error)
        if text is None:
            raise
        raise RuntimeError(f"Error in execution: {text}") from error

    for name, value, array in zip(names, binding.get_outputs(), results, strict=True):
        if not value.has_value():
            binding.bind_result(name, to_ort_value(array))
        elif tuple(value.shape()) == array.shape:
            value.update_inplace(array)
        else:
            raise RuntimeError(
                f"Error in execution: The output OrtValue provided for output '{name}' has shape "
                f"{_braces(value.shape())} but the computed output shape for this run is {_braces(array.shape)}. "
                "When calling Run() with pre-allocated output OrtValues on a model with dynamic output shapes, either "
                "supply unallocated output OrtValues or ensure the pre-allocated shapes match the expected output "
                "shapes for each run.\n"
            )


def to_ort_value(array: np.ndarray[Any, Any]) -> Any:
    """A native ``OrtValue`` with the array's content in memory of its own (one over the array would not keep it)."""
    cpu = C.OrtDevice(C.OrtDevice.cpu(), C.OrtDevice.default_memory(), 0)
    value = C.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, cpu)
    if array.size:
        value.update_inplace(array)
    return value


def _braces(shape: Iterable[int]) -> str:
    return "{" + ",".join(map(str, shape)) + "}"
