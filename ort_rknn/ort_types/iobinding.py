"""``IOBinding``: onnxruntime's own class over a native binding that writes down what is bound to it.

What is in NPU memory is written down only: onnxruntime knows no such memory. Its native binding gets a stand-in of the
same type and shape where it has to judge.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.errors import ClosedSession
from ort_rknn.ort_private.bindings import BindingBase, IOBindingBase, device
from ort_rknn.ort_private.session_base import native_of
from ort_rknn.ort_private.values import has_content, over
from ort_rknn.ort_types.ortvalue import NPU_NAMES, NpuOrtValue, at_address, npu_open
from ort_rknn.signatures import shown_as_theirs

if TYPE_CHECKING:
    from onnxruntime import OrtValue

__all__ = ["BindingRecord", "IOBinding", "SessionIOBinding"]

_DEVICE = "in NPU memory"


class BindingRecord:
    """Record of what was bound: enough to read the inputs, and to bind the same to another native binding.

    Attributes:
        inputs: Name to the native call that bound it, as (method, arguments).
        outputs: The same, in the order of binding.
        on_npu: Whether any of them is in NPU memory.
        judged: Whether onnxruntime found all of it good since the last change.
        filled: Outputs bound without memory that have had a result since then.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.outputs: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.on_npu = False
        self.judged = False
        self.filled: set[str] = set()

    def changed(self) -> None:
        """To be called after every change."""
        self.judged = False
        self.filled.clear()
        self.on_npu = any(method == _DEVICE for method, _ in (*self.inputs.values(), *self.outputs.values()))

    def has_memory(self, name: str) -> bool:
        """Whether an output was bound with memory, or has got some."""
        method, args = self.outputs[name]
        return name in self.filled or not (method == "bind_output" and len(args) == 1)

    def target(self, name: str) -> Any:
        """A value over the memory that an output was bound with; ``None`` without."""
        method, args = self.outputs[name]
        if method == "bind_output":
            return over(_read(args, np.dtype(args[1])), None) if len(args) > 1 else None
        return args[0]

    def goes_to_npu(self, name: str) -> bool:
        """Whether an output is to be in NPU memory."""
        return self.outputs[name][0] == _DEVICE

    def made(self, name: str, value: NpuOrtValue) -> None:
        """The memory that an output without got."""
        self.outputs[name] = (_DEVICE, (value,))

    def npu_value(self, name: str) -> NpuOrtValue | None:
        """An output's value in NPU memory, if it has one."""
        method, args = self.outputs[name]
        value: NpuOrtValue | None = args[0] if method == _DEVICE else None
        return value

    def feed(self, dtypes: Mapping[str, np.dtype[Any] | None]) -> dict[str, Any]:
        """The inputs as they are in memory now; values in NPU memory as they are."""
        return {
            name: args[0] if method == _DEVICE else _read(args, dtypes.get(name))
            for name, (method, args) in self.inputs.items()
        }

    def replay(self, native: Any) -> Any:
        """Bind the same to ``native`` and return it."""
        for kind, bound in (("input", self.inputs), ("output", self.outputs)):
            for name, (method, args) in bound.items():
                if method != _DEVICE:
                    getattr(native, method)(name, *args)
                elif args[0] is None:
                    native.bind_output(name, device("cpu"))
                else:
                    getattr(native, f"bind_ortvalue_{kind}")(name, args[0].empty())
        return native


class SessionIOBinding(BindingBase):  # type: ignore[misc]
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
        self.rknn_record.changed()

    def bind_ortvalue_input(self, name: str, ortvalue: Any) -> None:
        """Bind a native ``OrtValue``."""
        super().bind_ortvalue_input(name, ortvalue)
        self.rknn_record.inputs[name] = ("bind_ortvalue_input", (ortvalue,))
        self.rknn_record.changed()

    def bind_output(self, name: str, *args: Any) -> None:
        """Ask for an output, with or without memory to write it to."""
        super().bind_output(name, *args)
        self.rknn_record.outputs[name] = ("bind_output", args)
        self.rknn_record.changed()

    def bind_ortvalue_output(self, name: str, ortvalue: Any) -> None:
        """Bind a native ``OrtValue`` for an output."""
        super().bind_ortvalue_output(name, ortvalue)
        self.rknn_record.outputs[name] = ("bind_ortvalue_output", (ortvalue,))
        self.rknn_record.changed()

    def bind_result(self, name: str, ortvalue: Any) -> None:
        """Enter a result where :meth:`get_outputs` finds it."""
        super().bind_ortvalue_output(name, ortvalue)
        self.rknn_record.filled.add(name)

    def bind_npu_input(self, name: str, value: NpuOrtValue) -> None:
        """Bind a value in NPU memory."""
        if self._reads_record():
            super().bind_ortvalue_input(name, value.empty())
            self.rknn_record.inputs[name] = (_DEVICE, (value,))
            self.rknn_record.changed()
        else:
            self.bind_ortvalue_input(name, value.over())

    def bind_npu_output(self, name: str, value: NpuOrtValue | None) -> None:
        """Bind a value in NPU memory for an output; ``None``: memory is made at the first run."""
        if value is None and not (self._reads_record() and npu_open()):
            self.bind_output(name, device("npu"))
        elif self._reads_record():
            super().bind_output(name, device("cpu"))
            self.rknn_record.outputs[name] = (_DEVICE, (value,))
            self.rknn_record.changed()
        elif value is not None and value.settle("nchw") == "nchw":
            self.bind_ortvalue_output(name, value.over())
        else:
            raise RuntimeError(
                f"Error when binding output {name}: this session runs on the CPU, which cannot write memory that is "
                "nhwc; make the value with layout='nchw'"
            )

    def _reads_record(self) -> bool:
        """Whether the session does; one on onnxruntime alone does not."""
        return hasattr(self.rknn_session, "reads_bindings")

    def clear_binding_inputs(self) -> None:
        """Forget the inputs."""
        super().clear_binding_inputs()
        self.rknn_record.inputs.clear()
        self.rknn_record.changed()

    def clear_binding_outputs(self) -> None:
        """Forget the outputs."""
        super().clear_binding_outputs()
        self.rknn_record.outputs.clear()
        self.rknn_record.changed()

    def copy_outputs_to_cpu(self) -> Any:
        """The outputs as arrays of their own.

        Raises:
            RuntimeError: There was no run yet (onnxruntime itself ends the process here).
        """
        values = [self.rknn_record.npu_value(name) or value for name, value in self._outputs()]
        if not all(has_content(value, True) for value in values):
            raise RuntimeError("Error in execution: there are no outputs yet: run the session with this binding first")
        if not self.rknn_record.on_npu:
            return super().copy_outputs_to_cpu()
        return [np.array(value.numpy()) for value in values]

    def _outputs(self) -> list[tuple[str, Any]]:
        return list(zip(self.rknn_record.outputs, self.get_outputs(), strict=True))


@shown_as_theirs
class IOBinding(IOBindingBase):  # type: ignore[misc]
    """onnxruntime's ``IOBinding``, usable with sessions that have an NPU part.

    Values in NPU memory (``OrtValue`` with ``device_type="npu"``, ``bind_output(name, "npu")``) are read and written by
    the NPU itself; ``session.stats().copied`` names those that had to be copied, and why. A binding belongs to one
    thread at a time; several, each with memory of its own, keep several cores busy.
    """

    def __init__(self, session: Any) -> None:
        self._owner = weakref.ref(session)
        self.rknn_start(session, SessionIOBinding(native_of(session)))

    def rknn_session(self) -> Any:
        """The native session, which ``run_with_iobinding`` compares with its own: a closed one says that it is."""
        owner = self._owner()
        if owner is not None and isinstance(native_of(owner), ClosedSession):
            native_of(owner).refuse()
        return super().rknn_session()

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Any, buffer_ptr: int
    ) -> None:
        """Mirrors onnxruntime's; on the NPU ``buffer_ptr`` is the ``data_ptr()`` of a value there."""
        if device_type in NPU_NAMES:
            self.rknn_binding.bind_npu_input(name, at_address(buffer_ptr, element_type, shape))
        else:
            super().bind_input(name, device_type, device_id, element_type, shape, buffer_ptr)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Mirrors onnxruntime's method."""
        if isinstance(ortvalue, NpuOrtValue):
            self.rknn_binding.bind_npu_input(name, ortvalue)
        else:
            super().bind_ortvalue_input(name, ortvalue)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Mirrors onnxruntime's; on the NPU without ``buffer_ptr`` the first run makes memory there."""
        if device_type not in NPU_NAMES:
            super().bind_output(name, device_type, device_id, element_type, shape, buffer_ptr)
        elif buffer_ptr is None:
            self.rknn_binding.bind_npu_output(name, None)
        elif element_type is None or shape is None:
            raise ValueError("`element_type` and `shape` are to be provided if pre-allocated memory is provided")
        else:
            self.rknn_binding.bind_npu_output(name, at_address(buffer_ptr, element_type, shape))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Mirrors onnxruntime's method."""
        if isinstance(ortvalue, NpuOrtValue):
            self.rknn_binding.bind_npu_output(name, ortvalue)
        else:
            super().bind_ortvalue_output(name, ortvalue)

    def get_outputs(self) -> list[OrtValue]:
        """Mirrors onnxruntime's method."""
        values: list[OrtValue] = super().get_outputs()
        record = self.rknn_binding.rknn_record
        return [record.npu_value(name) or value for name, value in zip(record.outputs, values, strict=True)]


def _read(args: tuple[Any, ...], dtype: np.dtype[Any] | None) -> Any:
    if len(args) == 1:
        value = args[0]
        return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
    _, _, shape, address = args
    assert dtype is not None
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = memoryview((ctypes.c_ubyte * size).from_address(address))
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
