"""A time limit for calls of the runtime that have none of their own: opening and destroying contexts.

The vendor's calls cannot be interrupted, so they are made in a thread of their own; one that does not come back in time
is left behind, and what it may yet bring is given back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ort_rknn.errors import DeviceError
from ort_rknn_converters.util.log import logger

__all__ = ["CLOSE_SECONDS", "open_seconds", "within"]

OPEN_SECONDS = 30.0
"""Seconds for opening a context of a small model. A guess: rknn_init took 0.15 s at most where it was seen."""

BYTES_A_SECOND = 10_000_000
"""Compiled code read from a slow card. A guess."""

CLOSE_SECONDS = 10.0
"""Seconds for destroying a context. A guess."""

TIMEOUT, NAME = -2, "RKNN_ERR_TIMEOUT"

T = TypeVar("T")


def open_seconds(size: int) -> float:
    """Time limit of opening, in seconds.

    Args:
        size: Bytes of the compiled code.
    """
    return OPEN_SECONDS + size / BYTES_A_SECOND


class _Errand(Generic[T]):
    """One action in a thread of its own."""

    def __init__(self, action: Callable[[], T], too_late: Callable[[T], object]) -> None:
        self._action = action
        self._too_late = too_late
        self._lock = threading.Lock()
        self._given_up = False
        self.done = threading.Event()
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do it; a result that nobody waits for any more is given back."""
        try:
            result = self._action()
        except BaseException as error:
            self.error = error
        else:
            with self._lock:
                late = self._given_up
                self.result = result
            if late:
                self._too_late(result)
        self.done.set()

    def give_up(self) -> bool:
        """Wait no longer; ``False``: it was done at the last moment."""
        with self._lock:
            self._given_up = not (hasattr(self, "result") or self.error is not None)
            return self._given_up


def within(
    seconds: float,
    call_of: Callable[[int | None], str | None],
    action: Callable[[], T],
    too_late: Callable[[T], object],
    what: str,
) -> T:
    """Do something that calls the runtime, but not for longer than this.

    Args:
        seconds: The limit.
        call_of: Which call of the runtime a thread is in.
        action: It runs in another thread.
        too_late: Gives back a result that comes after the limit.
        what: For the error: what was to be done.

    Raises:
        DeviceError: It took longer; or whatever the action raises.
    """
    errand = _Errand(action, too_late)
    thread = threading.Thread(target=errand.run, name="rknn-open", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no threads any more: the interpreter ends
        return action()
    try:
        in_time = errand.done.wait(seconds)
    except BaseException:
        errand.give_up()
        raise
    if not in_time and errand.give_up():
        call = call_of(thread.ident) or "rknn_init"
        logger().warning("%s does not come back: %s", call, what)
        raise DeviceError(
            f"{call} failed: {NAME} ({TIMEOUT}): it did not come back within {seconds:g} s: {what}. The NPU or its "
            "driver hangs: a restart of the board is the only cure known",
            call=call,
            code=TIMEOUT,
            code_name=NAME,
        )
    if errand.error is not None:
        raise errand.error
    return errand.result
