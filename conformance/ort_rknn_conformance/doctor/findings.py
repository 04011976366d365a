"""One line of the doctor's table."""

from __future__ import annotations

from typing import Literal

from ort_rknn_converters.util.frozen import frozen

__all__ = ["Finding", "State"]

State = Literal["ok", "note", "bad"]
"""``ok``: as it should be. ``note``: worth knowing, does not keep the NPU from being used. ``bad``: does."""


@frozen
class Finding:
    """One row of the doctor's table.

    Attributes:
        topic: What was looked at.
        state: Whether it is as it should be.
        said: What was found.
        cure: What to do; empty where nothing needs to be done.
    """

    topic: str
    state: State
    said: str
    cure: str = ""
