"""Native bindings: onnxruntime's own, else the same calls over its public class."""

from __future__ import annotations

from typing import Any

import numpy as np

from ort_rknn.ort_private.own import native, public
from ort_rknn.ort_private.probes import hooks_work

__all__ = ["BindingBase", "IOBindingBase", "PublicBinding", "device"]


def device(name: str) -> Any:
    """Device as a native binding takes it: ``cpu`` or ``npu``."""
    if not hooks_work():
        return name, 0
    kind = native("OrtDevice")
    return kind(getattr(kind, name)(), kind.default_memory(), 0)


class PublicBinding:
    """Answers the calls of a native binding by a public one.

    Args:
        session: A :class:`~ort_rknn.ort_private.native.PublicNative`.
    """

    def __init__(self, session: Any) -> None:
        self.shown = public("IOBinding")(session.shown)

    def bind_input(self, name: str, *args: Any) -> None:
        """Bind an array, or typed memory by its address."""
        if len(args) == 1:
            self.shown.bind_cpu_input(name, args[0])
        else:
            self.shown.bind_input(name, *args[0], *args[1:])

    def bind_ortvalue_input(self, name: str, ortvalue: Any) -> None:
        """Bind a value."""
        self.shown.bind_ortvalue_input(name, _shown(ortvalue))

    def bind_output(self, name: str, *args: Any) -> None:
        """Ask for an output, with or without memory to write it to."""
        self.shown.bind_output(name, *args[0], *args[1:])

    def bind_ortvalue_output(self, name: str, ortvalue: Any) -> None:
        """Bind a value for an output."""
        self.shown.bind_ortvalue_output(name, _shown(ortvalue))

    def get_outputs(self) -> list[Any]:
        """The values of the outputs."""
        return list(self.shown.get_outputs())

    def copy_outputs_to_cpu(self) -> list[np.ndarray[Any, Any]]:
        """The outputs as arrays."""
        return list(self.shown.copy_outputs_to_cpu())

    def clear_binding_inputs(self) -> None:
        """Forget the inputs."""
        self.shown.clear_binding_inputs()

    def clear_binding_outputs(self) -> None:
        """Forget the outputs."""
        self.shown.clear_binding_outputs()

    def synchronize_inputs(self) -> None:
        """Wait until what is bound can be read."""
        self.shown.synchronize_inputs()

    def synchronize_outputs(self) -> None:
        """Wait until the outputs can be read."""
        self.shown.synchronize_outputs()


def _shown(value: Any) -> Any:
    kind = public("OrtValue")
    return value if isinstance(value, kind) else kind(value)


class HookedIOBinding(public("IOBinding")):  # type: ignore[misc]
    """onnxruntime's ``IOBinding`` over a native binding of ours."""

    _iobinding: Any
    _native: Any = None

    def rknn_start(self, session: Any, binding: Any) -> None:
        """Put the native binding in.

        Args:
            session: The session, whose native side is open.
            binding: Its native binding.
        """
        super().__init__(session)
        self._iobinding = binding

    def rknn_session(self) -> Any:
        """The native session, for those who compare it with theirs."""
        return self._native

    @property
    def rknn_binding(self) -> Any:
        """The native binding."""
        return self._iobinding

    @property
    def _session(self) -> Any:
        return self.rknn_session()

    @_session.setter
    def _session(self, native_session: Any) -> None:
        self._native = native_session


class FacadeIOBinding(public("IOBinding")):  # type: ignore[misc]
    """An ``IOBinding`` all of whose public calls go to a binding of ours."""

    rknn_binding: Any

    def rknn_start(self, session: Any, binding: Any) -> None:
        """Put the binding in."""
        self.rknn_binding = binding

    def rknn_session(self) -> Any:
        """The native session."""
        return self.rknn_binding.rknn_session

    def __getattr__(self, name: str) -> Any:
        """Answers what onnxruntime's own methods look for."""
        if name.startswith("__") or "rknn_binding" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.rknn_binding.shown, name)

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Mirrors onnxruntime's method."""
        self.rknn_binding.bind_input(name, arr_on_cpu)

    def bind_input(self, name: str, device_type: str, device_id: int, *args: Any) -> None:
        """Mirrors onnxruntime's method."""
        self.rknn_binding.bind_input(name, (device_type, device_id), *args)

    def bind_ortvalue_input(self, name: str, ortvalue: Any) -> None:
        """Mirrors onnxruntime's method."""
        self.rknn_binding.bind_ortvalue_input(name, ortvalue)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Mirrors onnxruntime's method."""
        if buffer_ptr is None:
            self.rknn_binding.bind_output(name, (device_type, device_id))
        elif element_type is None or shape is None:
            raise ValueError("`element_type` and `shape` are to be provided if pre-allocated memory is provided")
        else:
            self.rknn_binding.bind_output(name, (device_type, device_id), element_type, shape, buffer_ptr)

    def bind_ortvalue_output(self, name: str, ortvalue: Any) -> None:
        """Mirrors onnxruntime's method."""
        self.rknn_binding.bind_ortvalue_output(name, ortvalue)

    def get_outputs(self) -> list[Any]:
        """Mirrors onnxruntime's method."""
        return list(self.rknn_binding.get_outputs())

    def copy_outputs_to_cpu(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self.rknn_binding.copy_outputs_to_cpu()

    def clear_binding_inputs(self) -> None:
        """Mirrors onnxruntime's method."""
        self.rknn_binding.clear_binding_inputs()

    def clear_binding_outputs(self) -> None:
        """Mirrors onnxruntime's method."""
        self.rknn_binding.clear_binding_outputs()

    def synchronize_inputs(self) -> None:
        """Mirrors onnxruntime's method."""
        self.rknn_binding.synchronize_inputs()

    def synchronize_outputs(self) -> None:
        """Mirrors onnxruntime's method."""
        self.rknn_binding.synchronize_outputs()


BindingBase: Any = public("SessionIOBinding") if hooks_work() else PublicBinding
IOBindingBase: Any = HookedIOBinding if hooks_work() else FacadeIOBinding
