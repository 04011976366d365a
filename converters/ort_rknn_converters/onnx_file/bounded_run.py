"""Runs a user's graph on ONNX Runtime with a time limit: a Loop may have 2**62 steps, and folding may take for ever.

The work is done in a thread of its own. When its time is over, or the memory (a Loop may keep what each step gives),
ONNX Runtime is told to end. It looks at that between nodes, those of a Loop's body included; a thread that is inside
one endless node is left behind until the program ends, and its result with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ort_rknn_converters.errors import RunFailed
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.util.memory import free_memory, resident
from ort_rknn_converters.util.out_of_memory import short_of_memory

__all__ = ["QUICK_S", "SLOW_S", "Run", "bounded"]

QUICK_S, SLOW_S = 30.0, 300.0
"""Seconds for each feed: of a whole model, where the parts' own random values are nearly as good; and of a part, which
cannot be used unless it was run. Guesses: the heaviest model of the coverage page takes 2 s a feed on a PC, and a board
is 10 times slower."""

_GLANCE_S = 0.05
"""Seconds between two looks at the memory: a guess. Most runs are over before the first."""

_SHARE = 0.8  # of the memory that was free when the work began: a guess, the program needs some, too

_GRACE_S = 2.0  # to notice the wish to end; a guess: most nodes take milliseconds

T = TypeVar("T")


class Run:
    """Clock and run options that the work is given.

    Attributes:
        options: ``RunOptions`` for every run in it.
    """

    def __init__(self) -> None:
        self.options = ort.RunOptions()
        self._begun = time.monotonic()

    def next_feed(self) -> None:
        """Start the clock anew."""
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds on the clock."""
        return time.monotonic() - self._begun


def bounded(work: Callable[[Run], T], limit: float, what: str) -> T:
    """Do some work with ONNX Runtime, or give it up.

    Args:
        work: Makes sessions, and runs them with the options of the :class:`Run` it is given.
        limit: Seconds, for each feed where the work says when it takes the next.
        what: What it is, for the error: ``"the whole model"``.

    Raises:
        RunFailed: The time is over, or memory.
        Exception: What ``work`` raises.
    """
    run, done = Run(), threading.Event()
    outcome: list[Any] = []

    def thread() -> None:
        try:
            outcome.append((work(run), None))
        except BaseException as error:  # raised where somebody waits for it
            outcome.append((None, error))
        finally:
            done.set()

    threading.Thread(target=thread, name=f"ort_rknn runs {what}", daemon=True).start()
    room = 0.0
    try:
        while not done.wait(_GLANCE_S) and run.seconds < limit:
            held = resident()
            room = room or held + _SHARE * free_memory()
            if held > room:
                break
    finally:
        if not done.is_set():  # also for Ctrl-C
            run.options.terminate = True
    if not done.is_set():
        late = run.seconds >= limit
        done.wait(_GRACE_S)
        if late:
            raise RunFailed(f"a run of {what} took more than {limit:g} s on ONNX Runtime", kind="timeout")
        raise RunFailed(f"a run of {what} takes all the memory there is on ONNX Runtime", kind="memory")
    result, error = outcome[0]
    if error is None:
        return result  # type: ignore[no-any-return]
    if isinstance(error, MemoryError) or short_of_memory(str(error)):
        raise RunFailed(f"a run of {what} needs more memory than there is: {error}", kind="memory") from error
    raise error
