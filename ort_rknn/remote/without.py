"""Life without onnxruntime: whether it is installed, and classes that stand for its exceptions."""

from __future__ import annotations

import functools
import importlib.util

__all__ = ["error_class", "has_onnxruntime"]

_stand_ins: dict[str, type[Exception]] = {}


@functools.cache
def has_onnxruntime() -> bool:
    """Whether onnxruntime is installed here; a remote session needs it only for more of its own class."""
    try:
        return importlib.util.find_spec("onnxruntime") is not None
    except ImportError:
        return False


def error_class(name: str) -> type[Exception]:
    """Onnxruntime's exception class of that name, or a class with its name where onnxruntime is not installed."""
    if has_onnxruntime():
        from ort_rknn.ort_private.errors import error_class as theirs

        return theirs(name)
    return _stand_ins.setdefault(name, type(name, (Exception,), {"__doc__": "Stands for onnxruntime's."}))
