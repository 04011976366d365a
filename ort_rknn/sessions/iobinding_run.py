"""Runs a session with an NPU part over an I/O binding.

onnxruntime's native binding cannot be asked what was bound to it, so ours (:mod:`ort_rknn.ort_types.iobinding`) writes
it down. Outputs that have memory are written into; the others get the result bound, where onnxruntime's own calls find
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ort_rknn.ort_conventions import status_text
from ort_rknn.ort_private.bindings import BindingBase
from ort_rknn.ort_private.values import has_content, new_value, write

if TYPE_CHECKING:
    from ort_rknn.ort_types.iobinding import SessionIOBinding

__all__ = ["deliver", "run_bound", "run_copied"]

_IN_THE_STUB = "while running"  # a kernel of the stub failed: the binding itself was found good


class BindableSession(Protocol):
    """Part of a session that a run over an I/O binding needs."""

    @property
    def input_dtypes(self) -> Mapping[str, np.dtype[Any] | None]:
        """Numpy's dtype of each input."""

    def share(self, binding: SessionIOBinding, run_options: Any) -> bool:
        """Run in memory that the NPU reads and writes itself, where the binding has such; whether it did."""

    def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
        """Run on arrays."""


def run_bound(
    session: BindableSession, validate_on_stub: Callable[[Any, Any], None], binding: Any, run_options: Any
) -> None:
    """Run once.

    Args:
        session: The session.
        validate_on_stub: Runs the stub natively over a binding: raises what onnxruntime raises.
        binding: An :class:`ort_rknn.ort_types.iobinding.SessionIOBinding`.
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
    if not (record.on_npu and record.judged):
        try:
            validate_on_stub(record.replay(BindingBase(session)), run_options)
        except RuntimeError as error:
            if _IN_THE_STUB not in str(error):
                raise
        record.judged = True
    if not (record.on_npu and session.share(binding, run_options)):
        run_copied(session, session.input_dtypes, binding, run_options)


def run_copied(
    session: Any, dtypes: Mapping[str, np.dtype[Any] | None], binding: SessionIOBinding, run_options: Any
) -> None:
    """Run once by the session's ``run``, and copy the results to where they are bound.

    Args:
        session: What runs.
        dtypes: Numpy's dtype of each input.
        binding: What is bound.
        run_options: onnxruntime's ``RunOptions`` or ``None``.

    Raises:
        RuntimeError: In onnxruntime's words.
    """
    record = binding.rknn_record
    names = list(record.outputs)
    feed = {name: np.asarray(value) for name, value in record.feed(dtypes).items()}
    try:
        results = session.run(names, feed, run_options)
    except Exception as error:
        text = status_text(error)
        if text is None:
            raise
        raise RuntimeError(f"Error in execution: {text}") from error
    deliver(binding, dict(zip(names, results, strict=True)))


def deliver(binding: SessionIOBinding, results: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Put results where they are bound; those without memory get some, where :meth:`get_outputs` finds it.

    Raises:
        RuntimeError: The memory has another shape.
    """
    if not results:
        return
    from ort_rknn.ort_types.ortvalue import OrtValue

    record = binding.rknn_record
    for name, value in zip(list(record.outputs), _targets(binding), strict=True):
        if name not in results:
            continue
        array = results[name]
        target = record.npu_value(name) if record.goes_to_npu(name) else value
        if target is None:
            record.made(name, OrtValue.ortvalue_from_numpy(array, "npu", layout="nchw" if array.ndim == 4 else None))
        elif not has_content(target, record.has_memory(name)):
            binding.bind_result(name, new_value(array))
        elif tuple(target.shape()) == array.shape:
            write(target, array)
        else:
            raise RuntimeError(
                f"Error in execution: The output OrtValue provided for output '{name}' has shape "
                f"{_braces(target.shape())} but the computed output shape for this run is {_braces(array.shape)}. "
                "When calling Run() with pre-allocated output OrtValues on a model with dynamic output shapes, either "
                "supply unallocated output OrtValues or ensure the pre-allocated shapes match the expected output "
                "shapes for each run.\n"
            )


def _targets(binding: SessionIOBinding) -> list[Any]:
    """The outputs' values; where onnxruntime does not give them, those that were bound."""
    try:
        return list(binding.get_outputs())
    except (AttributeError, TypeError):
        record = binding.rknn_record
        return [record.target(name) for name in record.outputs]


def _braces(shape: Iterable[int]) -> str:
    return "{" + ",".join(map(str, shape)) + "}"
