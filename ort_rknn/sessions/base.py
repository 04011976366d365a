"""Base of both kinds of native sessions of ours: providers and their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

from ort_rknn.ort_conventions import RKNN_PROVIDER
from ort_rknn.ort_private.native import NativeBase

__all__ = ["NativeSession"]


class _Parts(Protocol):
    @property
    def npu(self) -> bool:
        """Whether a device other than onnxruntime runs what was compiled."""

    @property
    def provider_options(self) -> Mapping[str, str]:
        """The provider's options as strings."""


class NativeSession(NativeBase):  # type: ignore[misc]
    """A native session that lists our provider where it has one."""

    rknn_kind: ClassVar[Literal["npu", "dynamic"]]
    """``npu``: compiled for its shapes. ``dynamic``: variants come as shapes do. Other native sessions have no such
    attribute; ask the type, for a closed session answers no question."""

    _parts: _Parts

    def get_providers(self) -> list[str]:
        """The providers, first who is asked first."""
        names: list[str] = super().get_providers()
        return [RKNN_PROVIDER, *names] if self._parts.npu else names

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Options of the providers."""
        options = {RKNN_PROVIDER: dict(self._parts.provider_options)} if self._parts.npu else {}
        options.update(super().get_provider_options())
        return options

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle 'onnxruntime.capi.onnxruntime_pybind11_state.InferenceSession' object")
