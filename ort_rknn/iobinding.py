"""``IOBinding``: onnxruntime's own class over a native binding that writes down what is bound to it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime.capi.onnxruntime_inference_collection as collection
from onnxruntime.capi import _pybind_state as C

__all__ = ["BindingRecord", "IOBinding", "SessionIOBinding"]


class BindingRecord:
    """What was bound: enough to read the inputs, and to bind the same to another native binding.

    Attributes:
        inputs: Name to the native call that bound it, as (method, arguments).
        outputs: The same, in the order of binding.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.outputs: dict[str, tuple[str, tuple[Any, ...]]] = {}

    def feed(self, dtypes: Mapping[str, np.dtype[Any] | None]) -> dict[str, Any]:
        """The inputs as they are in memory now."""
        return {name: _read(args, dtypes.get(name)) for name, (_, args) in self.inputs.items()}

    def replay(self, native: Any) -> Any:
        """Bind the same to ``native`` and return it."""
        for name, (method, args) in (*self.inputs.items(), *self.outputs.items()):
            getattr(native, method)(name, *args)
        return native


class SessionIOBinding(C.SessionIOBinding):  # type: ignore[misc]
    """onnxruntime's native binding, with a record."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self.rknn_session = session  # onnxruntime 1.23.2 lets the session go and crashes at the next call
        self.rknn_record = BindingRecord()

    def bind_input(self, name: str, *args: Any) -> None:
        """Bind an array, or typed memory by its address."""
        if len(args) == 1 and isinstance(args[0], np.ndarray) and not args[0].flags.c_contiguous:
            args = (args[0].copy(order="C"),)  # onnxruntime copies these at the time of binding as well
        super().bind_input(name, *args)
        self.rknn_record.inputs[name] = ("bind_input", args)

    def bind_ortvalue_input(self, name: str, ortvalue: Any) -> None:
        """Bind a native ``OrtValue``."""
        super().bind_ortvalue_input(name, ortvalue)
        self.rknn_record.inputs[name] = ("bind_ortvalue_input", (ortvalue,))

    def bind_output(self, name: str, *args: Any) -> None:
        """Ask for an output, with or without memory to write it to."""
        super().bind_output(name, *args)
        self.rknn_record.outputs[name] = ("bind_output", args)

    def bind_ortvalue_output(self, name: str, ortvalue: Any) -> None:
        """Bind a native ``OrtValue`` for an output."""
        super().bind_ortvalue_output(name, ortvalue)
        self.rknn_record.outputs[name] = ("bind_ortvalue_output", (ortvalue,))

    def bind_result(self, name: str, ortvalue: Any) -> None:
        """Enter a result where :meth:`get_outputs` finds it."""
        super().bind_ortvalue_output(name, ortvalue)

    def clear_binding_inputs(self) -> None:
        """Forget the inputs."""
        super().clear_binding_inputs()
        self.rknn_record.inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forget the outputs."""
        super().clear_binding_outputs()
        self.rknn_record.outputs.clear()

    def copy_outputs_to_cpu(self) -> Any:
        """The outputs as arrays.

        Raises:
            RuntimeError: There was no run yet (onnxruntime itself ends the process here).
        """
        if not all(value.has_value() for value in self.get_outputs()):
            raise RuntimeError("Error in execution: there are no outputs yet: run the session with this binding first")
        return super().copy_outputs_to_cpu()


class IOBinding(collection.IOBinding):  # type: ignore[misc]
    """onnxruntime's ``IOBinding``, usable with sessions that have an NPU part."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self._iobinding = SessionIOBinding(session._sess)


def _read(args: tuple[Any, ...], dtype: np.dtype[Any] | None) -> Any:
    if len(args) == 1:
        value = args[0]
        return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
    _, _, shape, address = args
    assert dtype is not None
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = memoryview((ctypes.c_ubyte * size).from_address(address))
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
