"""``SessionOptions``: onnxruntime's own class, which also remembers what the NPU side needs to know.

onnxruntime's object can be written but, apart from a few fields, not read: pinned dimensions, providers, replaced
weights and operator libraries go in and cannot be asked for again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ort_rknn.ort_conventions import is_rknn
from ort_rknn.ort_private.arguments import copy_options
from ort_rknn.ort_private.own import public

__all__ = [
    "CONTEXT_ENABLE",
    "CONTEXT_PATH",
    "NO_CPU",
    "WEIGHTS_FOLDER",
    "SessionOptions",
    "clone",
    "config_entry",
    "replay_libraries",
    "set_entry",
]

CONTEXT_ENABLE = "ep.context_enable"
"""onnxruntime's key of the wish to have the compiled model written."""

CONTEXT_PATH = "ep.context_file_path"
"""onnxruntime's key of where the compiled model is written, or where one that is given as bytes was read."""

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""onnxruntime's key of the folder that has the files with the weights of a model that is given as bytes."""

NO_CPU = "session.disable_cpu_ep_fallback"
"""onnxruntime's key of the wish that a node on the CPU is an error."""

_Theirs: Any = public("SessionOptions")


class _AnySessionOptions(type(_Theirs)):  # type: ignore[misc]
    """Lets ``isinstance(x, ort_rknn.SessionOptions)`` be true for the native objects sessions give back."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls.__dict__.get("_is_the_public_class"):
            return isinstance(instance, _Theirs)
        return type.__instancecheck__(cls, instance)


class SessionOptions(_Theirs, metaclass=_AnySessionOptions):  # type: ignore[misc]
    """onnxruntime's ``SessionOptions`` that also accepts the RKNN provider and can be asked what was put in."""

    _is_the_public_class = True
    # No dictionary: a misspelt field is an AttributeError, as with onnxruntime's own class.
    __slots__ = (
        "_rknn_dims",
        "_rknn_dims_known",
        "_rknn_libraries",
        "_rknn_provider",
        "_rknn_replaced_weights",
    )

    def __init__(self) -> None:
        super().__init__()
        self._rknn_dims: dict[str, int] = {}
        self._rknn_dims_known = True
        self._rknn_provider: dict[str, str] | None = None
        self._rknn_libraries: list[str] = []
        self._rknn_replaced_weights: list[Any] = []  # onnxruntime itself does not keep them alive

    def add_free_dimension_override_by_name(self, dim_name: str, dim_value: int) -> None:
        """Pin a symbolic dimension to a size; the NPU code is compiled for it."""
        super().add_free_dimension_override_by_name(dim_name, dim_value)
        if dim_value >= 0:  # others onnxruntime takes too, and pins nothing
            self._rknn_dims[dim_name] = dim_value

    def add_free_dimension_override_by_denotation(self, dim_denotation: str, dim_value: int) -> None:
        """Pin the dimensions of a denotation to a size."""
        super().add_free_dimension_override_by_denotation(dim_denotation, dim_value)
        self._rknn_dims_known = False  # which dimensions these are, only a session of the model shows

    if hasattr(_Theirs, "add_provider"):  # since onnxruntime 1.22

        def add_provider(self, provider_name: str, provider_options: Mapping[str, str]) -> None:
            """Add an execution provider, ours included.

            Raises:
                InvalidOption: An option of ours that does not exist, or a value it does not take.
            """
            if not is_rknn(provider_name):
                super().add_provider(provider_name, provider_options)
                return
            from ort_rknn.options.table import RknnOptions

            RknnOptions.parse(provider_options)
            self._rknn_provider = dict(provider_options)

    if hasattr(_Theirs, "has_providers"):  # since onnxruntime 1.23

        def has_providers(self) -> bool:
            """Whether providers were added to these options."""
            return self._rknn_provider is not None or bool(super().has_providers())

    def register_custom_ops_library(self, library_path: str | os.PathLike[str]) -> None:
        """Register a library of custom operators, for the parts on the CPU too."""
        super().register_custom_ops_library(library_path)
        self._rknn_libraries.append(os.fspath(library_path))

    def add_initializer(self, name: str, ort_value: Any) -> None:
        """Replace a weight from outside; the model then stays on the CPU."""
        super().add_initializer(name, ort_value)
        self._rknn_replaced_weights.append(ort_value)

    def add_external_initializers(self, names: Sequence[str], ort_values: Sequence[Any]) -> None:
        """Replace external weights from outside; the model then stays on the CPU."""
        super().add_external_initializers(names, ort_values)
        self._rknn_replaced_weights.extend(ort_values)

    if hasattr(_Theirs, "add_external_initializers_from_files_in_memory"):  # since onnxruntime 1.23

        def add_external_initializers_from_files_in_memory(
            self, names: Sequence[str], buffers: Sequence[Any], lengths: Sequence[int]
        ) -> None:
            """Give the files that hold the model's weights from memory; the model then stays on the CPU."""
            super().add_external_initializers_from_files_in_memory(names, buffers, lengths)
            self._rknn_replaced_weights.extend(buffers)


def config_entry(options: Any, key: str) -> str:
    """A session configuration entry, or ``""`` when it was not set."""
    if options is None:
        return ""
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:
        return ""


def set_entry(options: Any, key: str, value: str) -> None:
    """Set a session configuration entry; onnxruntime warns of one that is set again, so one that is right stays."""
    if config_entry(options, key) != value:
        options.add_session_config_entry(key, value)


def clone(options: Any) -> Any:
    """A copy of session options that may be changed: what a native session makes of them and gives back."""
    return _Theirs() if options is None else copy_options(options)


def replay_libraries(source: Any, target: Any) -> None:
    """Register the custom operator libraries of ``source`` with ``target``; a copy of options does not carry them."""
    for library in getattr(source, "_rknn_libraries", ()):
        target.register_custom_ops_library(library)
