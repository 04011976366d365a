"""The class that sessions derive from: by onnxruntime's insides where they are as known, else by its public names."""

from __future__ import annotations

from typing import Any

from ort_rknn.ort_private.probes import hooks_work

__all__ = ["SessionBase", "native_of"]


def _base() -> Any:
    if hooks_work():
        from ort_rknn.ort_private.hooked import HookedSession

        return HookedSession
    from ort_rknn.ort_private.facade import FacadeSession

    return FacadeSession


SessionBase: Any = _base()


def native_of(session: Any) -> Any:
    """The native side of a session, ours or onnxruntime's own."""
    if isinstance(session, SessionBase):
        return session._rknn_native
    if hooks_work():
        return session._sess
    from ort_rknn.ort_private.native import PublicNative

    return PublicNative.of(session)
