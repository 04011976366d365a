"""CPU workers: a few threads that run the CPU steps of submitted jobs, the oldest job first.

So the CPU tail of one job and the CPU head of another run while the NPU has a third.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ort_rknn.engine.lanes.wake_ups import BriefLock

__all__ = ["CPU_WORKERS", "CpuWorkers"]

CPU_WORKERS = 2
"""Threads: one for a head, one for a tail. A guess; onnxruntime adds its own inside a step."""


class CpuWorkers:
    """A pool that takes work by priority. Its threads start with the first work.

    Args:
        on_taken: Called without a lock after a piece of work left the queue.
        count: Threads at most.

    Attributes:
        busy: Pieces of work being done.
        done: Pieces of work that were done.
    """

    def __init__(self, on_taken: Callable[[], object], count: int = CPU_WORKERS) -> None:
        self._on_taken = on_taken
        self._count = count
        self._changed = threading.Condition(BriefLock())
        self._queue: dict[int, Callable[[], object]] = {}  # by order; a few, so that the lowest is looked for
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._stopping = False
        self.done = 0
        self.busy = 0

    @property
    def waiting(self) -> int:
        """Pieces of work that no thread has taken."""
        return max(0, len(self._queue) - self._idle)

    def push(self, order: int, work: Callable[[], object]) -> None:
        """Accept work, without waiting.

        Args:
            order: The lowest goes first; no two waiting pieces have the same.
            work: Must not raise.
        """
        with self._changed:
            self._queue[order] = work
            if self._idle < len(self._queue) and len(self._threads) < self._count:
                self._start()
            if self._threads:
                self._changed.notify()
                return
            self._queue.clear()  # nothing else can be in it
        work()  # no thread can be had any more: the interpreter is ending

    def withdraw(self, work: Callable[[], object]) -> bool:
        """Take work out of the queue; ``False`` when a thread has it (or it is not here)."""
        with self._changed:
            order = next((order for order, one in self._queue.items() if one is work), None)
            if order is None:
                return False
            del self._queue[order]
        self._on_taken()
        return True

    def stop(self) -> None:
        """End the threads once the queue is empty, without waiting."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the threads to end."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"ort_rknn cpu {len(self._threads)}", daemon=True)
        self._idle += 1  # it is as good as waiting for work
        try:
            thread.start()
        except RuntimeError:
            self._idle -= 1
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        with self._changed:
            self._idle -= 1
        done = 0
        while True:
            with self._changed:
                self.busy -= done
                self.done += done
                done = 1
                while not self._queue:
                    if self._stopping:
                        return
                    self._idle += 1
                    self._changed.wait()  # no limit: a worker waits for work; stop() wakes it
                    self._idle -= 1
                work = self._queue.pop(min(self._queue))
                self.busy += 1
            self._on_taken()
            work()
            del work
