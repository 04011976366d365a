"""The same work in several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["together"]


def together(work: Callable[[Any], object], each: Iterable[Any]) -> None:
    """Call ``work`` with each argument in a thread of its own; returns when all have ended."""
    threads = [threading.Thread(target=work, args=(one,)) for one in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
