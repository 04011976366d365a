"""Says that a session compiles its model, when that takes long enough for somebody to wonder why nothing happens.

One line after three seconds, as a warning so that it shows by default; then a moving line in a terminal, or a line
every half minute in a log.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ort_rknn_converters.util.log import logger

__all__ = ["CompileNotice", "expected_seconds"]

PATIENCE_S = 3.0
"""Seconds before anything is said. A guess: what takes less is not wondered about."""

HEARTBEAT_S = 30.0
"""Seconds between two lines in a log. A guess."""

_PC, _BOARD = 1e-7, 4e-7
"""Seconds for each byte of the model. 25 million float32 weights take 5 s of compiling on a PC (measured) and about as
much of verifying; that a board takes four times as long is a guess."""

_START_S = 2.0
"""Seconds a conversion takes however small the model is; on a PC (measured)."""


class CompileNotice:
    """A :class:`ort_rknn_converters.progress.Progress` that speaks up only for what lasts.

    Args:
        model: Path or content.
        target: SoC compiled for.
        background: Calls are answered meanwhile, so that one line is enough.
        patience: Seconds before the first line.
        heartbeat: Seconds between lines in a log.
    """

    def __init__(
        self,
        model: str | bytes,
        target: str,
        *,
        background: bool = False,
        patience: float = PATIENCE_S,
        heartbeat: float = HEARTBEAT_S,
    ) -> None:
        self._name = "a model given as bytes" if isinstance(model, bytes) else Path(model).name
        self._expected = expected_seconds(model)
        self._target = target
        self._background = background
        self._patience = patience
        self._heartbeat = heartbeat
        self._stage = ""
        self._last: tuple[str, str, int, int] = ("load", "", 0, 0)
        self._ended = threading.Event()
        self._began = time.monotonic()
        self._thread: threading.Thread | None = None
        self._drawn: Any = None

    def __enter__(self) -> CompileNotice:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()  # no limit: it was told to end, and writes one line at most

    def report(self, stage: str, detail: str = "", done: int = 0, total: int = 0) -> None:
        """Takes note; the first report starts the clock."""
        count = f" {done} of {total}" if total > 1 else ""
        self._last = (stage, detail, done, total)
        self._stage = f"{stage}{count}{f': {detail}' if detail else ''}"
        if self._drawn is not None:
            self._drawn.report(stage, detail, done, total)
        if self._thread is None:
            self._began = time.monotonic()
            self._thread = threading.Thread(target=self._watch, name="ort_rknn compile notice", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        if self._ended.wait(self._patience):
            return
        waits = self._stage.startswith("wait")
        logger().warning(
            "%s %s for %s%s, then it is cached; about %s (a guess by its size)",
            "waiting for another process that compiles" if waits else "compiling",
            self._name,
            self._target,
            " in the background while the CPU answers" if self._background else "",
            _rounded(self._expected),
        )
        if self._background:
            return
        if sys.stderr.isatty():
            from ort_rknn_converters.cli.progress_bar import Drawn

            with Drawn() as self._drawn:
                self._drawn.report(*self._last)
                self._ended.wait()  # no limit: set when the conversion ends, which has limits of its own
            self._drawn = None
            return
        while not self._ended.wait(self._heartbeat):
            took = time.monotonic() - self._began
            logger().warning("still compiling %s after %.0f s (%s)", self._name, took, self._stage)


def expected_seconds(model: str | bytes) -> float:
    """Seconds a conversion may take on this machine, by the model's size; a guess within a factor of three.

    Args:
        model: Path or content; weights in files beside it count where they have the usual names.
    """
    if isinstance(model, bytes):
        size = len(model)
    else:
        path = Path(model)
        beside = (
            path,
            path.with_name(f"{path.name}.data"),
            path.with_suffix(".data"),
            path.with_name(f"{path.name}_data"),
        )
        size = sum(one.stat().st_size for one in beside if one.is_file())
    rate = _BOARD if platform.machine() == "aarch64" and (os.cpu_count() or 1) <= 8 else _PC
    return _START_S + size * rate


def _rounded(seconds: float) -> str:
    step = 5 if seconds < 60 else 30
    whole = max(step, step * round(seconds / step))
    return f"{whole} s" if whole < 120 else f"{whole / 60:.0f} min"
