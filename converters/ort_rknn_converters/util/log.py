"""The logger of all three packages, looked up when there is something to say.

Importing ``logging`` takes 2 ms (measured), and most sessions start with nothing to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["logger", "warn_once"]

_said: set[str] = set()


def logger() -> logging.Logger:
    """``logging.getLogger("ort_rknn")``."""
    import logging

    return logging.getLogger("ort_rknn")


def warn_once(sentence: str) -> None:
    """Log a warning, unless this process has."""
    if sentence not in _said:
        _said.add(sentence)
        logger().warning("%s", sentence)
