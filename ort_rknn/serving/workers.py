"""Threads that run gRPC's calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ort_rknn_converters.util.log import logger

__all__ = ["Workers"]


class Workers:
    """Threads for :func:`grpc.server`, in the place of the standard library's pool.

    GRPC asks of a task only to be told when it has ended. The pool's futures, which can also be waited for, cancelled
    and asked for a result, cost a tenth of a call with a picture (measured: 0.395 and 0.357 ms of 150 kB). The thread
    that has rested for the shortest time is taken, whose memory is still in the caches; one is made when none rests, up
    to ``most``; none keeps the process from ending.

    Args:
        most: Threads at most.
        name: Of the threads.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._resting: list[_Worker] = []
        self._waiting: deque[_Row] = deque()
        self._made = 0
        self._closed = False

    def submit(self, function: Callable[..., object], /, *arguments: Any) -> _Task:
        """Have a function called by a thread that is free, or by the next one that is.

        Raises:
            RuntimeError: The threads were given back.
        """
        task = _Task()
        row = task, function, arguments
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")  # the standard library's words
            if self._resting:
                worker = self._resting.pop()
            elif self._made < self._most:
                self._made += 1
                worker = None
            else:
                self._waiting.append(row)
                return task
        if worker is None:
            name = f"{self._name} {self._made}"
            threading.Thread(target=self._work, args=(row,), name=name, daemon=True).start()
        else:
            worker.row = row
            worker.wake.release()
        return task

    def shutdown(self) -> None:
        """Give the threads back: each ends after what it does now; what has not begun never does."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            resting, self._resting = self._resting, []
        for worker in resting:
            worker.wake.release()

    def _work(self, row: _Row | None) -> None:
        me = _Worker()
        while row is not None:
            task, function, arguments = row
            try:
                function(*arguments)
            except BaseException:  # gRPC's functions raise nothing; whatever it is, the next call needs this thread
                logger().exception("a call of gRPC failed")
            task.end()
            row = task = function = arguments = me.row = None  # type: ignore[assignment]  # nothing is kept in its rest
            with self._lock:
                if self._waiting:
                    row = self._waiting.popleft()
                    continue
                if self._closed:
                    return
                self._resting.append(me)
            me.wake.acquire()  # no limit: submit() or shutdown() wakes it
            row = me.row


class _Worker:
    """State of a thread: what it does next, and the lock that is released for it to begin."""

    __slots__ = ("row", "wake")

    def __init__(self) -> None:
        self.row: _Row | None = None
        self.wake = threading.Lock()
        self.wake.acquire()  # no limit: nobody else has it yet


class _Task:
    """Tells one listener when a function has ended."""

    __slots__ = ("_ended", "_listeners")

    def __init__(self) -> None:
        self._ended = False
        self._listeners: list[Callable[[Any], object]] = []

    def add_done_callback(self, listener: Callable[[Any], object]) -> None:
        """Call a function when the task has ended, at once if it has."""
        self._listeners.append(listener)
        if self._ended:
            self._tell()

    def end(self) -> None:
        """Say that the function has ended."""
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        while self._listeners:
            try:
                listener = self._listeners.pop()
            except IndexError:  # the other thread has it
                return
            listener(self)


_Row = tuple[_Task, Callable[..., object], tuple[Any, ...]]
