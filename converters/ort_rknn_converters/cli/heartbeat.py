"""Says in a log, now and then, what a long command is at: where no terminal draws, silence looks like a hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["EVERY_S", "Heartbeat", "ShownLines", "shown_lines"]

EVERY_S = 10.0
"""Seconds between two lines: a guess at what a reader of a log bears."""

LINE = 100
"""Characters of a line that are shown."""


class Heartbeat:
    """Writes what was said last, and for how long it has been at it, every :data:`EVERY_S` seconds.

    Args:
        write: Takes a line.
        every: Seconds between two lines.
    """

    def __init__(self, write: Callable[[str], None], every: float = EVERY_S) -> None:
        self._write = write
        self._every = every
        self._text = ""
        self._ended = threading.Event()
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="ort_rknn heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def say(self, text: str) -> None:
        """Note what the command is at."""
        self._text = text

    def stop(self) -> None:
        """Write no more."""
        self._ended.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()  # no limit: it was told to end, and writes one line at most

    def _beat(self) -> None:
        while not self._ended.wait(self._every):
            self._write(f"{time.monotonic() - self._begun:4.0f} s  {self._text}")


class ShownLines:
    """Shows one line that changes on a terminal, or a line now and then in a log. Called with each new line."""

    def __init__(self, console: Console, first: str) -> None:
        from ort_rknn_converters.util.foreign_text import in_markup, shown_lines

        self._escape = in_markup
        self._status = console.status(in_markup(first)) if console.is_terminal else None
        self._heartbeat = None
        if self._status is None:
            self._heartbeat = Heartbeat(
                lambda text: console.print(shown_lines(text), markup=False, highlight=False, soft_wrap=True)
            ).__enter__()
            self._heartbeat.say(first)
        else:
            self._status.start()

    def __call__(self, line: str) -> None:
        """Show a line."""
        if line and self._status is not None:
            self._status.update(self._escape(line[:LINE]))
        elif line and self._heartbeat is not None:
            self._heartbeat.say(line[:LINE])

    def stop(self) -> None:
        """Show no more."""
        if self._status is not None:
            self._status.stop()
        if self._heartbeat is not None:
            self._heartbeat.stop()


@contextmanager
def shown_lines(console: Console, first: str) -> Iterator[ShownLines]:
    """Show what a long step says while the ``with`` block runs.

    Args:
        console: Where.
        first: Shown until something else is.
    """
    shown = ShownLines(console, first)
    try:
        yield shown
    finally:
        shown.stop()
