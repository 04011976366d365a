"""Tells by the words of an error that memory ran out: a reason of the moment, whoever raises it."""

from __future__ import annotations

import re

__all__ = ["short_of_memory"]

_NO_MEMORY = re.compile(
    r"MemoryError|bad[_ ]alloc|cannot allocate|unable to allocate|failed to allocate|out of memory|allocation failed"
    r"|can't start new thread|pthread_create failed|thread creation failed",
    re.IGNORECASE,
)
"""How Python, numpy, C++, the loader, OpenBLAS and OpenMP say that there was no room for an array or a thread."""


def short_of_memory(words: str) -> bool:
    """Whether an error's words say that memory ran out."""
    return bool(_NO_MEMORY.search(words))
