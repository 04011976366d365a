"""Threads that run gRPC's calls."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

from ort_rknn_converters.util.log import logger

__all__ = ["Workers"]


class Workers:
    """Threads for :func:`grpc.server`, in the place of the standard library's pool.

    GRPC asks of a task only to be told when it has ended. The pool's futures, which can also be waited for, cancelled
    and asked for a result, cost a tenth of a call with a picture (measured: 0.395 and 0.357 ms of 150 kB). A thread is
    made when none is idle, up to ``most``; none keeps the process from ending.

    Args:
        most: Threads at most.
        name: Of the threads.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[tuple[_Task, Callable[..., object], tuple[Any, ...]] | None]
        self._tasks = queue.SimpleQueue()
        self._idle = self._made = 0
        self._closed = False

    def submit(self, function: Callable[..., object], /, *arguments: Any) -> _Task:
        """Have a function called by the next thread that is idle.

        Raises:
            RuntimeError: The threads were given back.
        """
        task = _Task()
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")  # the standard library's words
            more = self._idle <= 0 and self._made < self._most
            if more:
                self._made += 1
            else:
                self._idle -= 1  # below zero where tasks wait for a thread
        self._tasks.put((task, function, arguments))
        if more:
            threading.Thread(target=self._work, name=f"{self._name} {self._made}", daemon=True).start()
        return task

    def shutdown(self) -> None:
        """Give the threads back: each ends after what it does now; what has not begun never does."""
        with self._lock:
            self._closed = True
            with contextlib.suppress(queue.Empty):
                while True:
                    self._tasks.get_nowait()
            for _ in range(self._made):
                self._tasks.put(None)

    def _work(self) -> None:
        while (row := self._tasks.get()) is not None:
            task, function, arguments = row
            try:
                function(*arguments)
            except BaseException:  # gRPC's functions raise nothing; whatever it is, the next call needs this thread
                logger().exception("a call of gRPC failed")
            task.end()
            row = task = function = arguments = None  # type: ignore[assignment]  # nothing is kept while it waits
            with self._lock:
                self._idle += 1


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
