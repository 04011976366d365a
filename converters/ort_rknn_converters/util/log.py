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

    found = logging.getLogger("ort_rknn")
    if not found.filters:
        found.addFilter(_harmless)
    return found


def _harmless(record: logging.LogRecord) -> bool:
    """Shows a record's foreign parts; a line break in one cannot begin a line that looks like another record."""
    from ort_rknn_converters.util.foreign_text import shown_lines

    text = record.getMessage()
    safe = shown_lines(text).replace("\n", "\n    ")
    if safe != text:
        record.msg, record.args = safe, ()
    return True


def warn_once(sentence: str) -> None:
    """Log a warning, unless this process has."""
    if sentence not in _said:
        _said.add(sentence)
        logger().warning("%s", sentence)
