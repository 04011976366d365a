"""Makes ``ort_rknn.capi``, ``ort_rknn.quantization`` ... the very module objects of onnxruntime.

A module must not be executed twice under two names (the extension module cannot be), so importing
``ort_rknn.capi.x`` imports ``onnxruntime.capi.x`` and enters that object under the second name too.

It also serves programs that say ``sys.modules["onnxruntime"] = ort_rknn``: there onnxruntime's submodules are looked
for in this package's folder, where they are not.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["ALIASED", "REPLACED", "install_finder", "onnxruntime_itself", "stands_in"]

ALIASED = ("capi", "datasets", "quantization", "tools", "transformers")
"""Subpackages of onnxruntime that are reachable as ours. ``backend`` is our own; only its submodules are aliased."""

REPLACED = (
    "IOBinding",
    "InferenceSession",
    "ModelCompiler",
    "OrtValue",
    "SessionIOBinding",
    "SessionOptions",
    "get_all_providers",
    "get_available_providers",
)
"""Names of onnxruntime that this package has objects of its own for; older releases have fewer."""

_OURS, _THEIRS = "ort_rknn", "onnxruntime"
_ROOTS = frozenset(ALIASED)
_loading = threading.RLock()
_followers: list[Callable[[], None]] = []
"""What is to be done once onnxruntime is loaded under its own name."""
_itself: list[ModuleType] = []


def stands_in() -> bool:
    """Whether this package was entered in ``sys.modules`` as ``onnxruntime``."""
    return sys.modules.get(_THEIRS) is sys.modules.get(_OURS) is not None


def onnxruntime_itself() -> ModuleType:
    """The module onnxruntime, also where this package stands in ``sys.modules`` in its place."""
    if not stands_in():
        _itself[:] = [import_module(_THEIRS)]
    elif not _itself:
        with _loading:
            if not _itself:
                _itself[:] = [_load()]
    return _itself[0]


def _load() -> ModuleType:
    """Import onnxruntime under its own name, and put this package back.

    Another thread that says ``import onnxruntime`` at this very moment gets the real one.
    """
    ours = sys.modules.pop(_THEIRS)
    try:
        module = import_module(_THEIRS)
    finally:
        sys.modules[_THEIRS] = ours
    for name, child in list(sys.modules.items()):  # those imported before were made attributes of the stand-in
        root, _, tail = name.partition(".")
        if root == _THEIRS and tail and "." not in tail and not hasattr(module, tail):
            setattr(module, tail, child)
    return module


class _AliasLoader:
    """Gives an existing module under a second name, without executing it again.

    Neither this nor the finder derives from :mod:`importlib.abc`, whose import costs more than this package's.
    """

    def __init__(self, real_name: str) -> None:
        self._real_name = real_name
        self._real_spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._real_name)
        self._real_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just written the alias's spec over the module's own.
        module.__spec__ = self._real_spec


class _CapiLoader:
    """Loads ``onnxruntime.capi`` where this package stands in, and puts our classes where its modules have theirs."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._real.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        for follow in _followers:
            follow()


class _BackendLoader(_CapiLoader):
    """Gives our backend as ``onnxruntime.backend`` where this package stands in; onnxruntime's own is its base."""

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        sys.modules[f"{_THEIRS}.backend"] = import_module(f"{_OURS}.backend")


_STAND_IN_LOADERS: dict[str, type[_CapiLoader]] = {"capi": _CapiLoader, "backend": _BackendLoader}


class _AliasFinder:
    """Finds the aliased names; stands before the path finder, which would execute the files a second time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, tail = fullname.partition(".")
        root, _, rest = tail.partition(".")
        if package == _THEIRS and stands_in():
            return _of_the_stand_in(fullname, root, rest)
        if package != _OURS or (root not in _ROOTS and not (root == "backend" and rest)):
            return None
        real_name = f"{_THEIRS}.{tail}"
        try:
            real = import_module(real_name)
        except ModuleNotFoundError as error:
            if error.name == real_name:
                return None
            raise
        loader: Any = _AliasLoader(real_name)
        return ModuleSpec(fullname, loader, origin=getattr(real, "__file__", None))


def _of_the_stand_in(fullname: str, root: str, rest: str) -> ModuleSpec | None:
    """A submodule of onnxruntime where ``onnxruntime`` is this package: from onnxruntime's own folder."""
    if rest or not root:
        return None  # its parent is onnxruntime's own module
    package = PathFinder.find_spec(_THEIRS)
    if package is None or package.submodule_search_locations is None:
        return None
    spec = PathFinder.find_spec(fullname, package.submodule_search_locations)
    if spec is not None and root in _STAND_IN_LOADERS:
        loader: Any = _STAND_IN_LOADERS[root](spec.loader)
        spec.loader = loader
    return spec


def install_finder(follow: Callable[[], None]) -> None:
    """Enters the finder once per process.

    Args:
        follow: Called when onnxruntime was loaded while this package stands in its place.
    """
    _followers[:] = [follow]
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        finder: Any = _AliasFinder()
        sys.meta_path.insert(0, finder)
        known = sys.modules.get(_THEIRS)
        if known is not None:
            _itself[:] = [known]
