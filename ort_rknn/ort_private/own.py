"""onnxruntime's own objects: the public ones, whatever stands in their place now, and the others where they exist."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy  # noqa: F401  # first: onnxruntime's import is 15 ms shorter when numpy is loaded before it (measured, 1.31)

from ort_rknn.ort_private.module_aliases import REPLACED, onnxruntime_itself

__all__ = ["native", "public", "version"]

_public = onnxruntime_itself()  # also where this package stands in ``sys.modules`` in its place

# Taken before ``install()`` can put ours in their place: that imports this module first.
_KEPT = {name: getattr(_public, name) for name in REPLACED if hasattr(_public, name)}
_MODULES = ("onnxruntime.capi._pybind_state", "onnxruntime.capi.onnxruntime_pybind11_state")


def public(name: str) -> Any:
    """An object of onnxruntime's documented module, also while ours stands there.

    Raises:
        AttributeError: The installed release has none of that name.
    """
    return _KEPT[name] if name in _KEPT else getattr(_public, name)


def native(name: str) -> Any:
    """An object of onnxruntime's extension module, which promises nothing; ``None`` where there is none."""
    for module in _MODULES:
        try:
            found = getattr(import_module(module), name, None)
        except ImportError:
            continue
        if found is not None:
            return found
    return None


def version() -> str:
    """The installed release."""
    return str(getattr(_public, "__version__", "of unknown version"))
