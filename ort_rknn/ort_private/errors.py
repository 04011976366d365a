"""onnxruntime's exception classes, which only its extension module has."""

from __future__ import annotations

from ort_rknn.ort_private.own import native

__all__ = ["error_class", "has_error"]

_stand_ins: dict[str, type[Exception]] = {}


def error_class(name: str) -> type[Exception]:
    """Onnxruntime's exception class of that name; where it has none, a class of ours with the name."""
    kind = native(name)
    if isinstance(kind, type) and issubclass(kind, Exception):
        return kind
    return _stand_ins.setdefault(name, type(name, (Exception,), {"__doc__": "Stands for onnxruntime's."}))


def has_error(name: str) -> bool:
    """Whether the installed onnxruntime raises an exception of that name."""
    return native(name) is not None
