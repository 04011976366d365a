"""The access log: one line a call, on the logger ``ort_rknn.access``."""

from __future__ import annotations

import logging

from ort_rknn_converters.util.foreign_text import shown

__all__ = ["access_logger", "log_access", "logs_access"]

_logger = logging.getLogger("ort_rknn.access")
_logger.setLevel(logging.WARNING)  # off until the command turns it on


def access_logger() -> logging.Logger:
    """The logger; its level INFO turns it on."""
    return _logger


def logs_access() -> bool:
    """Whether anybody reads the access log."""
    return _logger.isEnabledFor(logging.INFO)


def log_access(door: str, peer: str, call: str, model: str, status: str, seconds: float) -> None:
    """Write who called what, how it ended and how long it took. What a client made up controls nothing in it."""
    if logs_access():
        _logger.info("%s %s %s %r %s %.1f ms", door, peer, shown(call), shown(model), status, 1000 * seconds)
