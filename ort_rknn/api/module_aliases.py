"""Makes ``ort_rknn.capi``, ``ort_rknn.quantization`` ... the very module objects of onnxruntime.

A module must not be executed twice under two names (the extension module cannot be), so importing
``ort_rknn.capi.x`` imports ``onnxruntime.capi.x`` and enters that object under the second name too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["ALIASED", "install_finder"]

ALIASED = ("capi", "datasets", "quantization", "tools", "transformers")
"""Subpackages of onnxruntime that are reachable as ours. ``backend`` is our own; only its submodules are aliased."""

_PREFIX = "ort_rknn."
_ROOTS = frozenset(ALIASED)


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


class _AliasFinder:
    """Finds the aliased names; stands before the path finder, which would execute the files a second time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        tail = fullname[len(_PREFIX) :]
        root, _, rest = tail.partition(".")
        if root not in _ROOTS and not (root == "backend" and rest):
            return None
        real_name = f"onnxruntime.{tail}"
        try:
            real = import_module(real_name)
        except ModuleNotFoundError as error:
            if error.name == real_name:
                return None
            raise
        loader: Any = _AliasLoader(real_name)
        return ModuleSpec(fullname, loader, origin=getattr(real, "__file__", None))


def install_finder() -> None:
    """Enter the finder once per process."""
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        finder: Any = _AliasFinder()
        sys.meta_path.insert(0, finder)
