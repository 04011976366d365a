"""Runs a session with an NPU part over OrtValues: by name, in a vector, or bound. Loaded at the first such call.

onnxruntime's native binding cannot be asked what was bound to it, so ours (:mod:`ort_rknn.ort_types.iobinding`) writes
it down. Outputs that have memory are written into; the others get the result bound, where onnxruntime's own calls find
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ort_rknn.ort_conventions import numpy_dtype, status_text
from ort_rknn.ort_private.bindings import BindingBase
from ort_rknn.ort_private.values import has_content, is_tensor, new_value, value_vector, write
from ort_rknn.ort_types.adapters import has_adapters, without_adapters

if TYPE_CHECKING:
    from ort_rknn.ort_types.iobinding import SessionIOBinding

__all__ = ["deliver", "run_bound", "run_by_name", "run_copied", "run_vectors"]

_IN_THE_STUB = "while running"  # a kernel of the stub failed: the binding itself was found good


class ValueSession(Protocol):
    """Part of a session that a run over values needs."""

    @property
    def input_dtypes(self) -> Mapping[str, np.dtype[Any] | None]:
        """Numpy's dtype of each input."""

    @property
    def output_dtypes(self) -> Mapping[str, np.dtype[Any] | None]:
        """Numpy's dtype of each output."""

    @property
    def whole_native(self) -> Any:
        """Native session of the whole model, for what numpy cannot hold."""

    def share(self, binding: SessionIOBinding, run_options: Any) -> bool:
        """Run in memory that the NPU reads and writes itself, where the binding has such; whether it did."""

    def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
        """Run on arrays."""


def run_by_name(session: ValueSession, inputs: Mapping[str, Any], output_names: Any, run_options: Any) -> Any:
    """Run on values by their inputs' names, found good; returns a vector of the outputs' values."""
    names = output_names if type(output_names) is list else list(output_names)
    if has_adapters(run_options) or not _numeric(session, inputs.values(), names):
        return session.whole_native.run_with_ort_values(inputs, names, run_options)
    vector = value_vector()
    for array in session.run(names, _arrays(inputs), None):
        vector.push_back(new_value(array))
    return vector


def run_vectors(
    session: ValueSession,
    run_options: Any,
    feed_names: Sequence[str],
    feeds: Any,
    fetch_names: Sequence[str],
    fetches: Any,
    fetch_devices: Any,
) -> None:
    """Run on vectors of values, found good; the results are put into ``fetches``."""
    given = dict(zip(feed_names, feeds, strict=True))
    if not _numeric(session, given.values(), fetch_names):
        session.whole_native.run_with_ortvaluevector(
            run_options, feed_names, feeds, fetch_names, fetches, fetch_devices
        )
        return
    room = len(fetches)
    for index, array in enumerate(session.run(list(fetch_names), _arrays(given), None)):
        if index < room and has_content(fetches[index], True):
            write(fetches[index], array)
        else:
            fetches.push_back(new_value(array))


def run_bound(
    session: ValueSession, validate_on_stub: Callable[[Any, Any], None], binding: Any, run_options: Any
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
    names = () if record is None else [name for name in record.outputs if name in session.output_dtypes]
    if not _numeric(session, (), names):
        session.whole_native.run_with_iobinding(binding, run_options)
        return
    run_options = without_adapters(run_options, "run_with_iobinding")
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


def _numeric(session: ValueSession, values: Iterable[Any], output_names: Iterable[str]) -> bool:
    """Whether all values that go in and out are tensors numpy can hold."""
    outputs = all(session.output_dtypes[name] is not None for name in output_names)
    return outputs and all(is_tensor(value) and numpy_dtype(value.data_type()) is not None for value in values)


def _arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value.numpy()) for name, value in values.items()}


def _targets(binding: SessionIOBinding) -> list[Any]:
    """The outputs' values; where onnxruntime does not give them, those that were bound."""
    try:
        return list(binding.get_outputs())
    except (AttributeError, TypeError):
        record = binding.rknn_record
        return [record.target(name) for name in record.outputs]


def _braces(shape: Iterable[int]) -> str:
    return "{" + ",".join(map(str, shape)) + "}"
