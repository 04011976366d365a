"""Imports what a conversion hardly ever uses only when it is used.

onnx-ir imports sympy, an algebra system, for arithmetic with symbolic dimensions. Here shapes are fixed before anything
is computed with them, and that import takes longer than all others together (measured: 1.1 s of 1.6 s of CPU).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["defer_sympy", "lazy_imports"]

_ALGEBRA = ("sympy", "onnx_ir._symbolic_shapes")


@contextmanager
def lazy_imports(*names: str) -> Iterator[None]:
    """Let the imports inside the ``with`` block give these modules as promises: the first use of one loads it.

    Args:
        names: Full names of modules. Those that are loaded already stay as they are.
    """
    finder = _LazyFinder(frozenset(names))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def defer_sympy() -> Iterator[None]:
    """:func:`lazy_imports` for what onnx-ir imports and a conversion does without."""
    with lazy_imports(*_ALGEBRA):
        yield


class _LazyFinder(MetaPathFinder):
    """Finds what the finders after it find, and puts the loading off."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec; ``None`` for all other modules, which are loaded at once."""
        if fullname not in self._names:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = importlib.util.LazyLoader(spec.loader)
                return spec
        return None
