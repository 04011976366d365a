"""Progress reports of a conversion. The library is silent; a command passes something that draws."""

from __future__ import annotations

from typing import Protocol

__all__ = ["SILENT", "Progress", "Stage"]

Stage = str
"""``load``, ``prepare``, ``plan``, ``compile``, ``learn``, ``verify``, ``assemble`` or ``wait`` (another process
converts). ``verify`` is of the whole model."""


class Progress(Protocol):
    """Receives reports. May be called from several threads at once."""

    def report(self, stage: Stage, detail: str = "", done: int = 0, total: int = 0) -> None:
        """Take note.

        Args:
            stage: What is being done.
            detail: On what, in words; may be empty.
            done: How many things of this stage are done.
            total: How many there are; 0 when unknown.
        """


class _Silent:
    def report(self, stage: Stage, detail: str = "", done: int = 0, total: int = 0) -> None:
        """Nothing."""


SILENT: Progress = _Silent()
"""Takes reports and does nothing."""
