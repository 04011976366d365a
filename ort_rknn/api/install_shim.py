"""Puts the shim in the place of ``onnxruntime`` for code one does not own, and takes it out again.

The names that are ours are set in the onnxruntime module itself. So it does not matter whether a program imported
onnxruntime before or imports it later, and everything that is not ours stays untouched. (Code that has already taken a
class out of the module, ``from onnxruntime import InferenceSession``, keeps what it took.)
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

__all__ = ["install", "uninstall"]

_REPLACED = (
    "IOBinding",
    "InferenceSession",
    "OrtValue",
    "SessionIOBinding",
    "SessionOptions",
    "get_all_providers",
    "get_available_providers",
)
_originals: dict[str, Any] = {}
_lock = threading.Lock()


def install() -> None:
    """From now on ``import onnxruntime`` gives this package's sessions. May be called again; once is enough."""
    import ort_rknn

    onnxruntime = import_module("onnxruntime")
    with _lock:
        if _originals:
            return
        ours = {name: getattr(ort_rknn, name) for name in _REPLACED}
        for name, value in ours.items():
            _originals[name] = getattr(onnxruntime, name)
            setattr(onnxruntime, name, value)


def uninstall() -> None:
    """Undo :func:`install`; sessions that were made keep working."""
    onnxruntime = import_module("onnxruntime")
    with _lock:
        for name, value in _originals.items():
            setattr(onnxruntime, name, value)
        _originals.clear()
