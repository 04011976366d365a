"""Draws a conversion's progress on the terminal."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ort_rknn_converters.cli.heartbeat import Heartbeat
from ort_rknn_converters.util.foreign_text import shown

__all__ = ["Drawn"]

_PATIENCE_S = 0.5
"""What takes less than this needs no picture, a guess; and what draws is imported while the compiler works, mostly."""

_WORDS = {
    "load": "reading the model",
    "prepare": "preparing",
    "plan": "deciding what runs where",
    "compile": "compiling and verifying",
    "learn": "looking for the node that fails",
    "verify": "comparing the whole model",
    "assemble": "putting the parts together",
    "wait": "waiting",
    "save": "writing",
}
_DETAIL = 120  # characters of a detail that are shown


def _into_the_log(text: str) -> None:
    print(shown(text), file=sys.stderr, flush=True)


class Drawn:
    """A :class:`ort_rknn_converters.progress.Progress` that draws one line with a spinner on stderr.

    Where stderr is no terminal, a line every ten seconds says what it is at.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._drawn = sys.stderr.isatty() and not quiet
        self._status: Any = None
        self._escape: Callable[[str], str] = str
        self._text = "starting"
        self._heartbeat = None if quiet or self._drawn else Heartbeat(_into_the_log)
        self._ended = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(_PATIENCE_S, self._begin)
        self._timer.daemon = True

    def __enter__(self) -> Drawn:
        self._timer.start()
        if self._heartbeat is not None:
            self._heartbeat.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        with self._lock:
            self._ended = True
            if self._status is not None:
                self._status.stop()

    def _begin(self) -> None:
        importlib.import_module("ort_rknn_converters.partition.plan")  # what draws the result is the same library
        if not self._drawn:
            return
        from rich.console import Console

        from ort_rknn_converters.util.foreign_text import in_markup

        with self._lock:
            if not self._ended:
                self._escape = in_markup
                self._status = Console(stderr=True).status(in_markup(self._text))
                self._status.start()

    def report(self, stage: str, detail: str = "", done: int = 0, total: int = 0) -> None:
        """Draw."""
        count = f" ({done} of {total})" if total > 1 else ""
        what = f": {detail[:_DETAIL]}" if detail else ""
        with self._lock:
            self._text = f"{_WORDS.get(stage, stage)}{count}{what}"
            if self._heartbeat is not None:
                self._heartbeat.say(self._text)
            if self._status is not None:
                self._status.update(self._escape(self._text))
