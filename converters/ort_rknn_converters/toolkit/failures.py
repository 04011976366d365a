"""Finds the words for a child that did not deliver: what the toolkit said last, or what the system did to it."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Mapping
from typing import Any

from ort_rknn_converters.errors import ConvertError, NpuNotOpened, ToolkitBroken, ToolkitFailed
from ort_rknn_converters.toolkit import log_parser
from ort_rknn_converters.toolkit.npu_access import LAST_WORDS, NEVERTHELESS, npu_obstacle
from ort_rknn_converters.toolkit.setup.environment import ToolkitPython, repair
from ort_rknn_converters.util.out_of_memory import short_of_memory

__all__ = ["explain", "no_room"]

_SYSTEM = re.compile(
    r"Too many open files|Resource temporarily unavailable|Input/output error|Stale file handle|Read-only file system"
    r"|File too large"
)
"""What a system in need says; none of it is the model's."""

_OWN_SIGNALS = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)
"""Signals a program brings upon itself: a crash. All others somebody sends: a user, a supervisor, a limit."""
_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded")
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Fail|Invalid\w*|NotImplemented|RuntimeException|Refused)(?::|$)")


def sentence(text: str) -> str:
    """The message at the end of the traceback that the toolkit's exceptions carry as their text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        if _EXCEPTION.match(lines[number]):
            return " ".join(lines[number:]).removeprefix("Refused: ")  # our own words, raised within the toolkit
    return lines[-1] if lines else ""


def _through_a_wrapper(status: int) -> int:
    """The signal behind an exit status: an interpreter that is a script may pass on what became of the real one."""
    for number in (signal.SIGKILL, signal.SIGTERM, *sorted(_OWN_SIGNALS)):
        if status in (128 + number, 256 - number):  # as shells say it, and as Python's subprocess
            return -number
    return status


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time ones have no names
        return f"signal {number}"


def no_room(directory: object) -> ConvertError:
    """The exception for a full disk: not the model's fault, so no :class:`ToolkitFailed`."""
    return ConvertError(
        f"no room to convert in {directory}. A conversion needs about three times the model's size there: make room, or"
        " set TMPDIR to a folder on another disk"
    )


def _memory(what: str, log: str) -> ToolkitFailed:
    return ToolkitFailed(
        f"the toolkit {what} (a conversion needs about 8 times the size of the weights). Close other programs, or"
        " convert on a machine with more memory and copy the compiled model",
        kind="memory",
        log=log,
    )


def _limited() -> bool:
    """Whether this process and its children may not have all memory: allocations then fail, and programs crash."""
    limits = (resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(limit != resource.RLIM_INFINITY for limit in limits)


def explain(toolkit: ToolkitPython, status: int, stage: str, result: Mapping[str, Any], log: str) -> ConvertError:
    """The exception for a child that ended without a compiled file.

    Args:
        toolkit: Its interpreter.
        status: Its exit status, negative for a signal.
        stage: What it had begun last, empty when it did not come that far.
        result: What it wrote about the failure; empty when it died before.
        log: All it printed.
    """
    last = log_parser.tail(log)
    message = str(result.get("message", ""))
    if _NO_ROOM.search(message or last):
        return no_room("the temporary folder")
    during = f" during {stage}" if stage else ""
    status = status if result else _through_a_wrapper(status)
    if status == -signal.SIGKILL:
        return _memory(f"was killed{during} (SIGKILL), as the system does when memory runs out", last)
    if result.get("kind") == "memory" or short_of_memory(f"{message}\n{last}"):
        return _memory(f"ran out of memory{during}", last)
    if found := _SYSTEM.search(f"{message}\n{last}"):
        return ToolkitFailed(f"the system failed the toolkit{during}: {found[0]}", kind="killed", log=last)
    name = _signal_name(-status) if status < 0 else f"exit status {status}"
    if status < 0 and -status not in _OWN_SIGNALS:
        return ToolkitFailed(f"the toolkit was ended from outside{during} ({name})", kind="killed", log=last)
    if status < 0 and _limited():
        return _memory(f"crashed{during} ({name}) under a memory limit (ulimit)", last)
    if stage in ("", "import"):
        why = sentence(message or log) or name
        return ToolkitBroken(f"rknn-toolkit2 does not start in {toolkit.python}: {why}. {repair(toolkit)}")
    if LAST_WORDS in last and not result:  # no model's fault: never looked into, never remembered
        why = npu_obstacle() or (
            "its aarch64 compiler opens the NPU even to compile, and none of /dev/rknpu and /dev/dri/card* answered it."
            f" To cure it, boot a kernel with the vendor's rknpu driver; or {NEVERTHELESS}"
        )
        return NpuNotOpened(f"rknn-toolkit2 cannot compile on this machine: {why}")
    if not result:
        words = log_parser.last_words(log)
        after = f'; its last words were "{words}"' if words else ""
        return ToolkitFailed(f"the toolkit crashed during {stage} ({name}){after}", kind="crashed", log=last)
    reason = sentence(message) or log_parser.last_error(log) or str(result.get("code", "no reason given"))
    return ToolkitFailed(f"the toolkit refused the model during {stage}: {reason}", kind="refused", log=last)
