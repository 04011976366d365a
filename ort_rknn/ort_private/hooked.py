"""A session whose native side is put in by us: onnxruntime's class, at the place where it makes that.

onnxruntime's Python ``InferenceSession`` does everything through its ``_sess``, which ``_create_inference_session``
makes. Nothing else of ours is in the path of its calls. Where a release does not behave like that, sessions are
:class:`~ort_rknn.ort_private.facade.FacadeSession`.
"""

from __future__ import annotations

from typing import Any

from ort_rknn.ort_private.own import public

__all__ = ["HookedSession"]

# onnxruntime's attribute of a session -> the native property it is filled from.
_FILLED_FROM = {
    "_sess_options": "session_options",
    "_inputs_meta": "inputs_meta",
    "_outputs_meta": "outputs_meta",
    "_overridable_initializers": "overridable_initializers",
    "_input_meminfos": "input_meminfos",
    "_output_meminfos": "output_meminfos",
    "_input_epdevices": "input_epdevices",
    "_model_meta": "model_meta",
    "_profiling_start_time_ns": "get_profiling_start_time_ns",
}


class HookedSession(public("InferenceSession")):  # type: ignore[misc]
    """onnxruntime's session with a place for a native side of ours."""

    _sess: Any

    def _rknn_make(self, providers: Any, provider_options: Any, disabled: Any) -> None:
        """Give the session its native side: called when it is made, and again by ``set_providers``."""
        raise NotImplementedError

    def _rknn_create(self, options: Any, providers: Any, provider_options: Any, disabled: Any) -> Any:
        """Let onnxruntime make the native side, and return it."""
        self._sess_options = options
        super()._create_inference_session(providers, provider_options, disabled)
        return self._sess

    def _rknn_attach(self, native: Any) -> None:
        """Put in a native side, and all that onnxruntime keeps beside it."""
        self._sess = native
        for attribute, source in _FILLED_FROM.items():
            if hasattr(native, source):  # older releases have fewer
                setattr(self, attribute, getattr(native, source))
        self._providers = native.get_providers()
        self._provider_options = native.get_provider_options()

    @property
    def _rknn_native(self) -> Any:
        """The native side."""
        return self._sess

    @_rknn_native.setter
    def _rknn_native(self, native: Any) -> None:
        self._sess = native

    def _rknn_falls_back_to(self, providers: list[str]) -> None:
        """Say what onnxruntime is to try when the making fails."""
        self._fallback_providers = providers

    def _rknn_validate(self, names: list[str]) -> None:
        """Refuse a feed without a required input, in onnxruntime's words."""
        self._validate_input(names)

    def _create_inference_session(self, providers: Any, provider_options: Any, disabled_optimizers: Any = None) -> None:
        self._rknn_make(providers, provider_options, disabled_optimizers)
