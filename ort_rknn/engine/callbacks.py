"""Delivery: one thread that runs all user code of an engine, callbacks in the order of submission if so asked.

The thread starts with the first thing to deliver. It sleeps only when nothing is ready, so it needs the interpreter's
lock only once for a crowd of results. User code never runs under a lock of ours, and nothing it raises is lost: a
callback's error goes to ``sys.unraisablehook``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ort_rknn.engine.lanes.switch_interval import URGENT_S, FastSwitching
from ort_rknn.engine.lanes.wake_ups import BriefLock, Sleeper
from ort_rknn_converters.util.log import logger

__all__ = ["Delivery", "report_unraisable"]

BEHIND = 8
"""Callbacks that are due at once when the program's own threads keep them from running. A guess."""

Call = Callable[[], object]


class Delivery:
    """Calls functions one after the other on a thread of its own.

    Args:
        ordered: Whether callbacks wait for those of earlier jobs.
        limit: Callbacks that may wait before :attr:`saturated`.
        on_started: Called without a lock before a callback when that many wait, or did until now.
        every: Call ``on_started`` before every callback.

    Attributes:
        calling: Whether user code runs now.
        delivered: Functions that were called so far.
    """

    def __init__(self, *, ordered: bool, limit: int, on_started: Call, every: bool = False) -> None:
        self._ordered = ordered
        self._limit = limit
        self._worth_telling = 0 if every else limit - 1
        self._on_started = on_started
        self._lock = BriefLock()
        self._expected: deque[int] = deque()
        self._held: dict[int, tuple[Call, Call]] = {}
        self._ready: deque[tuple[Call, Call | None]] = deque()
        self._posted = 0  # changed under the lock
        self._begun = 0  # changed by whoever delivers
        self.delivered = 0
        self.calling = False
        self._switching = FastSwitching(URGENT_S)
        self._sleeper = Sleeper()
        self._asleep = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._ident: int | None = None
        self._finished = False
        self._standing_in = False

    @property
    def saturated(self) -> bool:
        """Whether as many finished jobs wait for their callback as may."""
        return self._posted - self._begun >= self._limit

    @property
    def undelivered(self) -> int:
        """Finished jobs whose callback has not begun."""
        return self._posted - self._begun

    @property
    def ready(self) -> int:
        """Finished jobs whose callback waits for no earlier job's end."""
        return self.undelivered - len(self._held)

    @property
    def here(self) -> bool:
        """Whether this is the delivery thread."""
        return self._ident == threading.get_ident()

    def expect(self, job_id: int) -> None:
        """Reserve the next place in the order for a job's callback. One thread at a time."""
        if self._ordered:
            self._expected.append(job_id)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._start()  # now: when the callback is due, the interpreter may be ending and refuse

    def post(self, job_id: int, callback: Call, done: Call) -> None:
        """A job has ended: call ``callback``, then ``done``, when it is its turn."""
        with self._lock:
            self._posted += 1
            if self._ordered:
                self._held[job_id] = (callback, done)
                while self._expected and self._expected[0] in self._held:
                    self._ready.append(self._held.pop(self._expected.popleft()))
            else:
                self._ready.append((callback, done))
            stand_in = bool(self._ready) and self._wake()
        if stand_in:
            self._stand_in()

    def later(self, function: Call) -> None:
        """Call ``function`` as soon as possible; it waits for no order and takes no room."""
        with self._lock:
            self._ready.append((function, None))
            stand_in = self._wake()
        if stand_in:
            self._stand_in()

    def stop(self) -> None:
        """End the thread once nothing is left to deliver, without waiting."""
        with self._lock:
            self._stopping = True
            if self._asleep:
                self._asleep = False
                self._sleeper.poke()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread to end."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name="ort_rknn delivery", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending
            return False
        self._thread = thread
        return True

    def _wake(self) -> bool:
        """Wake or start the thread; ``True`` when none can be had any more and the caller must stand in for it."""
        if self._asleep:
            self._asleep = False
            self._sleeper.poke()
            return False
        if self._thread is not None and not self._finished:
            return False
        if self._standing_in or (self._thread is None and self._start()):
            return False
        self._standing_in = True
        return True

    def _stand_in(self) -> None:
        """Deliver in the calling thread; only one does so at a time."""
        self._ident = threading.get_ident()
        while True:
            self._deliver()
            with self._lock:
                if not self._ready:
                    self._standing_in = False
                    self._ident = None
                    return

    def _work(self) -> None:
        self._ident = threading.get_ident()
        while True:
            self._deliver()
            with self._lock:
                if self._ready:
                    continue
                if self._stopping:
                    self._finished = True
                    return
                self._asleep = True
            self._sleeper.sleep()

    def _deliver(self) -> None:
        ready = self._ready
        while ready:
            if len(ready) >= BEHIND:
                self._switching.begin()
            self._call(*ready.popleft())
        self._switching.end()

    def _call(self, function: Call, done: Call | None) -> None:
        self.calling = True
        try:
            if done is None:
                _call_quietly(function)
                return
            self._begun += 1
            if self._posted - self._begun >= self._worth_telling:  # read after it: a submitter may look in between
                self._on_started()
            try:
                function()
            except BaseException as error:
                report_unraisable(error)
            finally:
                done()
        finally:
            self.calling = False
            self.delivered += 1


def _call_quietly(function: Call) -> None:
    try:
        function()
    except BaseException:  # as concurrent.futures does with its own
        logger().exception("exception calling the done callback of a job")


class _Raised:
    """Carries a callback's error into ``sys.unraisablehook``: only the interpreter can call it with what it wants."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __del__(self) -> None:
        error, self.error = self.error, StopIteration()
        raise error


def report_unraisable(error: BaseException) -> None:
    """Hand an error that nobody can catch to ``sys.unraisablehook``."""
    _Raised(error)
