"""Draws a conversion's progress on the terminal."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.status import Status

__all__ = ["Drawn"]

_WORDS = {
    "load": "reading the model",
    "prepare": "preparing",
    "plan": "deciding what runs where",
    "compile": "compiling and verifying",
    "learn": "looking for the node that fails",
    "assemble": "putting the parts together",
    "wait": "waiting",
    "save": "writing",
}
_DETAIL = 120  # characters of a detail that are shown


class Drawn:
    """A :class:`ort_rknn_converters.progress.Progress` that draws one line with a spinner on stderr.

    Nothing is drawn where stderr is no terminal.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._status: Status = Console(stderr=True, quiet=quiet).status("starting")
        self._lock = threading.Lock()

    def __enter__(self) -> Drawn:
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._status.stop()

    def report(self, stage: str, detail: str = "", done: int = 0, total: int = 0) -> None:
        """Draw."""
        count = f" ({done} of {total})" if total > 1 else ""
        what = f": {detail[:_DETAIL]}" if detail else ""
        with self._lock:
            self._status.update(escape(f"{_WORDS.get(stage, stage)}{count}{what}"))
