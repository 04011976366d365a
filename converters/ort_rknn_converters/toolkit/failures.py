"""Finds the words for a child that did not deliver: what the toolkit said last, or what the system did to it."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import Any

from ort_rknn_converters.errors import ConvertError, ToolkitFailed, ToolkitMissing
from ort_rknn_converters.toolkit import log_parser
from ort_rknn_converters.toolkit.setup.environment import MISSING

__all__ = ["explain", "no_room"]

_NO_MEMORY = re.compile(r"MemoryError|bad_alloc|Cannot allocate memory|out of memory", re.IGNORECASE)
_NO_ROOM = re.compile(r"No space left on device")
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Fail|Invalid\w*|NotImplemented|RuntimeException|Refused)(?::|$)")


def sentence(text: str) -> str:
    """The message at the end of the traceback that the toolkit's exceptions carry as their text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        if _EXCEPTION.match(lines[number]):
            return " ".join(lines[number:]).removeprefix("Refused: ")  # our own words, raised within the toolkit
    return lines[-1] if lines else ""


def no_room(directory: object) -> ConvertError:
    """The exception for a full disk: not the model's fault, so no :class:`ToolkitFailed`."""
    return ConvertError(
        f"no room to convert in {directory}. A conversion needs about three times the model's size there: make room, or"
        " set TMPDIR to a folder on another disk"
    )


def _memory(during: str, log: str) -> ToolkitFailed:
    return ToolkitFailed(
        f"the toolkit ran out of memory{during} (a conversion needs about 8 times the size of the weights). Convert on"
        " a machine with more memory and copy the compiled model",
        kind="memory",
        log=log,
    )


def explain(python: str, status: int, stage: str, result: Mapping[str, Any], log: str) -> ConvertError:
    """The exception for a child that ended without a compiled file.

    Args:
        python: Its interpreter.
        status: Its exit status, negative for a signal.
        stage: What it had begun last, empty when it did not come that far.
        result: What it wrote about the failure; empty when it died before.
        log: All it printed.
    """
    last = log_parser.tail(log)
    message = str(result.get("message", ""))
    if _NO_ROOM.search(message or last):
        return no_room("the temporary folder")
    if result.get("kind") == "memory" or status == -signal.SIGKILL or _NO_MEMORY.search(message or last):
        return _memory(f" during {stage}" if stage else "", last)
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    if stage in ("", "import"):
        why = sentence(message or log) or name
        return ToolkitMissing(f"rknn-toolkit2 does not start in {python}: {why}. {MISSING}")
    if not result:
        words = log_parser.last_words(log)
        after = f'; its last words were "{words}"' if words else ""
        return ToolkitFailed(f"the toolkit crashed during {stage} ({name}){after}", kind="crashed", log=last)
    reason = sentence(message) or log_parser.last_error(log) or str(result.get("code", "no reason given"))
    return ToolkitFailed(f"the toolkit refused the model during {stage}: {reason}", kind="refused", log=last)
