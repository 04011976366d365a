"""Puts the shim in the place of ``onnxruntime`` for code one does not own, and takes it out again.

The names that are ours are set in onnxruntime's own modules, wherever they stand: in the package and in its submodules
(``onnxruntime.capi.onnxruntime_inference_collection.InferenceSession`` is where type hints and pickles take it from).
So it does not matter whether a program imported onnxruntime before or imports it later, and everything that is not ours
stays untouched. (Code that has already taken a class out of the module, ``from onnxruntime import InferenceSession``,
keeps what it took.)

A program may also say ``sys.modules["onnxruntime"] = ort_rknn``; then the same is done when onnxruntime is loaded.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

from ort_rknn.ort_private.module_aliases import REPLACED, onnxruntime_itself, stands_in

__all__ = ["follow", "install", "uninstall"]

_pairs: list[tuple[Any, Any]] = []
"""While installed: what is onnxruntime's, and what is ours in its place."""

_lock = threading.RLock()


def install() -> None:
    """From now on ``import onnxruntime`` gives this package's sessions. May be called again; once is enough."""
    import ort_rknn

    onnxruntime = onnxruntime_itself()
    with _lock:
        if not _pairs:
            names = [name for name in REPLACED if hasattr(onnxruntime, name)]  # older releases have fewer
            ours = [getattr(ort_rknn, name) for name in names]
            _pairs.extend(zip([getattr(onnxruntime, name) for name in names], ours, strict=True))
        _replace({id(theirs): ours for theirs, ours in _pairs}, onnxruntime)


def uninstall() -> None:
    """Undo :func:`install`; sessions that were made keep working."""
    onnxruntime = onnxruntime_itself()
    with _lock:
        _replace({id(ours): theirs for theirs, ours in _pairs}, onnxruntime)
        _pairs.clear()


def follow() -> None:
    """Install where this package stands in ``sys.modules`` as onnxruntime, as soon as all that is ours can be had."""
    if not stands_in() or _pairs or not _lock.acquire(blocking=False):
        return
    try:
        from ort_rknn import _OWN

        modules = {name: sys.modules.get(_OWN[name]) for name in REPLACED}
        if all(module is None or hasattr(module, name) for name, module in modules.items()):
            install()  # else one of them is being imported, and this comes again when that is done
    finally:
        _lock.release()


def _replace(by: dict[int, Any], onnxruntime: ModuleType) -> None:
    """Set other objects in the place of some, by ``id``, in every module of onnxruntime that was imported."""
    theirs = {
        name: module
        for name, module in list(sys.modules.items())
        if name.startswith("onnxruntime.") and isinstance(module, ModuleType)
    }
    for module in (onnxruntime, *theirs.values()):
        if module.__name__.partition(".")[0] != "onnxruntime":
            continue  # our own backend stands there under their name
        for name, value in list(vars(module).items()):
            if id(value) in by:
                setattr(module, name, by[id(value)])
