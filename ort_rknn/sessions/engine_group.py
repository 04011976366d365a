"""Several engines of one session, seen as one: those of its compiled shapes and the one over onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.engine.stats import EngineStats

__all__ = ["EngineGroup"]

_NO_COUNTS = frozenset({"mean_inference_s", "lanes", "notes", "copied"})
_COUNTS = tuple(row.name for row in fields(EngineStats) if row.name not in _NO_COUNTS)


class EngineGroup:
    """Engines of several variants behind the calls of one. Callbacks are in order for each engine, not across them.

    Args:
        engines: The engines there are now.
        stop: Ends what would make more of them.
    """

    def __init__(self, engines: Sequence[Engine], stop: Callable[[], object]) -> None:
        self._engines = tuple(engines)
        self._stop = stop

    @property
    def width(self) -> int:
        """Jobs that are accepted without waiting, by the engine that takes most."""
        return max((engine.width for engine in self._engines), default=1 + EngineOptions().max_queue_size)

    def wait_all(self, timeout: float | None = None) -> bool:
        """Waits as :meth:`ort_rknn.engine.engine.Engine.wait_all`."""
        end = None if timeout is None else time.monotonic() + timeout
        return all(
            engine.wait_all(None if end is None else max(0.0, end - time.monotonic())) for engine in self._engines
        )

    def close(self, *, wait: bool = True, cancel_jobs: bool = False) -> None:
        """Closes as :meth:`ort_rknn.engine.engine.Engine.close`; nothing more is compiled."""
        self._stop()
        for engine in self._engines:
            engine.close(wait=wait, cancel_jobs=cancel_jobs)

    def contexts(self) -> list[Mapping[str, Any]]:
        """Contexts of all engines."""
        return [facts for engine in self._engines for facts in engine.contexts()]

    def stats(self) -> EngineStats:
        """The sums over all engines."""
        each = [engine.stats() for engine in self._engines]
        counts = {name: sum(getattr(one, name) for one in each) for name in _COUNTS}
        lanes = tuple(lane for one in each for lane in one.lanes)
        notes = tuple(note for one in each for note in one.notes)
        return EngineStats(**counts, mean_inference_s=None, lanes=lanes, notes=notes)
