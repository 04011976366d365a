"""One thing that ``ort-rknn board-test`` tried, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ort_rknn_converters.util.frozen import frozen

__all__ = ["Attempt", "Trial"]


@frozen
class Trial:
    """A row of the report.

    Attributes:
        group: ``cores``, ``models``, ``operators``, ``features`` or ``speed``.
        name: What was tried.
        ok: Whether it was right; ``None`` for a fact that is neither right nor wrong.
        said: What came of it, in words.
        rel_rms: Worst relative RMS over all answers; ``None`` where there are none.
        median_ms: Median time of one inference, in milliseconds; ``None`` with several in flight.
        p95_ms: The time that 95 of 100 inferences keep within.
        per_second: Inferences per second.
        details: Long text, like the runtime's table of layers.
    """

    group: str
    name: str
    ok: bool | None
    said: str
    rel_rms: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    per_second: float | None = None
    details: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@frozen
class Attempt:
    """Trials that are made together.

    Attributes:
        group: Of the trials.
        names: Of the trials.
        run: Makes them; what goes wrong is a result.
    """

    group: str
    names: tuple[str, ...]
    run: Callable[[], list[Trial]]
