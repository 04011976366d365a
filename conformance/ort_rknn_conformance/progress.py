"""Shows how far a long run is: one line that changes in a terminal, else a line now and then, as CI logs keep."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console

from ort_rknn_converters.util.foreign_text import in_markup

__all__ = ["Progress"]

EVERY_S = 10.0  # seconds between two lines where nothing can be drawn (a guess)


class Progress:
    """Says on stderr how many cases are done, how many are bad, and how long the rest will take.

    Args:
        total: Cases of the run; 0: not known.
        done: Of these, done in an earlier run.
        bad: Of those, bad.
        console: Where to draw; a terminal gets one changing line. Default: stderr.
    """

    def __init__(self, total: int = 0, *, done: int = 0, bad: int = 0, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._status = self._console.status("starting the workers")
        self._total = total
        self._done = self._before = done
        self._bad = bad
        self._start = self._said = time.monotonic()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._status.stop()

    def step(self, case: str, *, bad: bool) -> None:
        """One more case is done."""
        self._done += 1
        self._bad += bad
        now = time.monotonic()
        if self._console.is_terminal:
            self._status.update(f"{in_markup(self._text(now))}, last: {in_markup(case)}")
        elif now - self._said >= EVERY_S:
            self._said = now
            self._console.print(self._text(now), markup=False, soft_wrap=True)

    def _text(self, now: float) -> str:
        if not self._total:
            return f"{self._done} done, {self._bad} bad"
        seconds = (now - self._start) / (self._done - self._before) * (self._total - self._done)
        rest = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        return f"{self._done} of {self._total} cases, {self._bad} bad, about {rest} left"
