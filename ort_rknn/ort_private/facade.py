"""A session over onnxruntime's public class alone, for releases whose insides are not as they were.

It is an ``onnxruntime.InferenceSession`` by class, but its state is another session's, which it holds: its public calls
go to the native side of ours, or to that other session; and what onnxruntime's own methods look for in it, they find
in the other. Slower by a call or two, otherwise the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ort_rknn.ort_private.native import PublicNative
from ort_rknn.ort_private.own import public
from ort_rknn.ort_private.values import MappedValue
from ort_rknn_converters.util.foreign_text import shown_lines

__all__ = ["FacadeSession"]


class FacadeSession(public("InferenceSession")):  # type: ignore[misc]
    """A session that holds another."""

    _rknn_native: Any = None

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: Any = None,
        providers: Any = None,
        provider_options: Any = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(path_or_bytes, (str, os.PathLike, bytes)):
            raise TypeError(f"Unable to load from type '{type(path_or_bytes)}'")
        self._rknn_given = path_or_bytes if isinstance(path_or_bytes, bytes) else os.fspath(path_or_bytes)
        self._rknn_fallback = int(kwargs.pop("enable_fallback", 1)) == 1
        disabled = kwargs.pop("disabled_optimizers", None)
        self._rknn_more = kwargs
        try:
            self._rknn_make(providers, provider_options, disabled)
        except (ValueError, RuntimeError) as error:
            if not self._rknn_fallback:
                raise
            print("*************** EP Error ***************")
            print(shown_lines(f"EP Error {error} when using {providers}"))
            print("Falling back to ['CPUExecutionProvider'] and retrying.")
            print("****************************************")
            try:
                self._rknn_make(["CPUExecutionProvider"], None, None)
            except Exception as second:
                raise second from error
            self.disable_fallback()

    def _rknn_make(self, providers: Any, provider_options: Any, disabled: Any) -> None:
        """Give the session its native side: called when it is made, and again by ``set_providers``."""
        raise NotImplementedError

    def _rknn_create(self, options: Any, providers: Any, provider_options: Any, disabled: Any) -> Any:
        """Let onnxruntime make a session, and return it as a native side."""
        more = dict(self._rknn_more)
        if disabled is not None:
            more["disabled_optimizers"] = disabled
        shown = public("InferenceSession")(
            self._rknn_given, options, providers, provider_options, enable_fallback=0, **more
        )
        self._rknn_attach(PublicNative.of(shown, options))
        return self._rknn_native

    def _rknn_attach(self, native: Any) -> None:
        """Put in a native side, and keep what it says of the model for when the session is closed."""
        self._rknn_native = native
        self._rknn_said = {
            "inputs": native.inputs_meta,
            "outputs": native.outputs_meta,
            "initializers": native.overridable_initializers,
            "model": native.model_meta,
            "options": native.session_options,
            "providers": native.get_providers(),
            "provider_options": native.get_provider_options(),
        }

    def _rknn_falls_back_to(self, providers: list[str]) -> None:
        """Say what is to be tried when the making fails; it is the CPU here."""

    def _rknn_validate(self, names: list[str]) -> None:
        """Refuse a feed without a required input, in onnxruntime's words."""
        missing = [
            argument.name
            for argument in self._rknn_native.inputs_meta
            if argument.name not in names and not argument.type.startswith("optional")
        ]
        if missing:
            raise ValueError(f"Required inputs ({missing}) are missing from input feed ({names}).")

    def __getattr__(self, name: str) -> Any:
        """Answers what onnxruntime's own methods look for."""
        native = self.__dict__.get("_rknn_native")
        if name.startswith(("__", "_rknn", "rknn")) or native is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(native.shown, name)

    def _names(self, output_names: Any) -> Any:
        return output_names or [argument.name for argument in self._rknn_native.outputs_meta]

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        """Mirrors onnxruntime's method."""
        native = self._rknn_native
        self._rknn_validate(list(input_feed.keys()))
        return native.run(self._names(output_names), _fed(input_feed), run_options)

    def run_async(
        self, output_names: Any, input_feed: Mapping[str, Any], callback: Any, user_data: Any, run_options: Any = None
    ) -> None:
        """Mirrors onnxruntime's method."""
        self._rknn_validate(list(input_feed.keys()))
        names = self._names(output_names)
        self._rknn_native.run_async(names, _fed(input_feed), callback, user_data, run_options)

    def run_with_ort_values(
        self, output_names: Any, input_dict_ort_values: Mapping[str, Any], run_options: Any = None
    ) -> Any:
        """Mirrors onnxruntime's method."""
        self._rknn_validate(list(input_dict_ort_values.keys()))
        feed = _fed(input_dict_ort_values)
        kind = public("OrtValue")
        values = self._rknn_native.run_with_ort_values(feed, self._names(output_names), run_options)
        return [value if isinstance(value, kind) else kind(value) for value in values]

    def run_with_ortvaluevector(self, *arguments: Any, **named: Any) -> None:
        """Mirrors onnxruntime's method."""
        order = ("run_options", "feed_names", "feeds", "fetch_names", "fetches", "fetch_devices")
        given = dict(zip(order, arguments, strict=False)) | named
        self._rknn_native.run_with_ortvaluevector(*(given[name] for name in order))

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        """Mirrors onnxruntime's method."""
        native, binding = self._rknn_native, getattr(iobinding, "rknn_binding", iobinding)
        made_for = iobinding.rknn_session() if hasattr(iobinding, "rknn_session") else native
        if made_for is not native:
            native.inputs_meta  # noqa: B018  # a closed one says that it is
            raise ValueError("IOBinding must be used with the session that created it.")
        native.run_with_iobinding(binding, run_options)

    # --- questions ----------------------------------------------------------------------------------------------------

    def get_session_options(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_said["options"]

    def get_inputs(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_said["inputs"]

    def get_outputs(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_said["outputs"]

    def get_overridable_initializers(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_said["initializers"]

    def get_modelmeta(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_said["model"]

    def get_providers(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_said["providers"]

    def get_provider_options(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_said["provider_options"]

    def get_provider_graph_assignment_info(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_native.get_provider_graph_assignment_info()

    def end_profiling(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_native.end_profiling()

    def get_profiling_start_time_ns(self) -> Any:
        """Mirrors onnxruntime's method."""
        return self._rknn_native.get_profiling_start_time_ns

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        """Makes the session anew with other providers, as onnxruntime does."""
        self._rknn_make(providers, provider_options, None)

    def disable_fallback(self) -> None:
        """Mirrors onnxruntime's method."""
        self._rknn_fallback = False

    def enable_fallback(self) -> None:
        """Mirrors onnxruntime's method."""
        self._rknn_fallback = True


def _fed(feed: Any) -> Any:
    """The feed with values in NPU memory as onnxruntime's own."""
    if not any(isinstance(value, MappedValue) for value in feed.values()):
        return feed
    kind = public("OrtValue")
    return {
        name: kind.ortvalue_from_numpy(value.contiguous()) if isinstance(value, MappedValue) else value
        for name, value in feed.items()
    }
