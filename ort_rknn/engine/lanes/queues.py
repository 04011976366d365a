"""Where tasks wait for a lane: one queue for those any lane may take, one per core for those that are pinned."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from ort_rknn.engine.lanes.base import Task

__all__ = ["Queues"]


class Queues:
    """The queues of all lanes. The lanes' lock guards them.

    Args:
        cores: The cores there are.
    """

    def __init__(self, cores: Iterable[int]) -> None:
        self._shared: deque[Task] = deque()
        self._pinned: dict[int, deque[Task]] = {core: deque() for core in cores}
        self.waiting = 0

    def put(self, task: Task, core: int | None, front: bool) -> None:
        """Queue a task for a core, or for any."""
        queue = self._shared if core is None else self._pinned[core]
        (queue.appendleft if front else queue.append)(task)
        self.waiting += 1

    def take(self, core: int) -> Task | None:
        """The next task for a lane on this core."""
        queue = self._pinned[core] or self._shared
        if not queue:
            return None
        self.waiting -= 1
        return queue.popleft()

    def remove(self, task: Task) -> bool:
        """Take a task out; ``False`` when it is not here."""
        for queue in (self._shared, *self._pinned.values()):
            if task in queue:
                queue.remove(task)
                self.waiting -= 1
                return True
        return False

    def take_orphans(self, served: Callable[[int], bool]) -> list[Task]:
        """Take out all tasks that any lane may have, and those whose core is no longer served."""
        orphans = list(self._shared)
        self._shared.clear()
        for core, queue in self._pinned.items():
            if not served(core):
                orphans += queue
                queue.clear()
        self.waiting -= len(orphans)
        return orphans
