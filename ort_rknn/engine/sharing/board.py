"""Boards: what the engines of a process that use one NPU know of each other.

Each engine is a :class:`Sharer` of its board. It asks before it opens another context, and gives contexts back when
others are crowded, so that all of them together have two contexts a core and not two a core each.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from ort_rknn.devices.rknnrt.native_calls import NativeLibrary
    from ort_rknn.engine.sharing.arbiter import Arbiter, Gate

__all__ = ["CROWDED_S", "Board", "ContextOwner", "Priority", "Scope", "Sharer", "board_of"]

Priority = Literal["high", "normal", "medium", "low"]
"""Class of a session's inferences; ``medium`` is the vendor's word for ``normal``."""

Scope = Literal["process", "machine"]
"""Whose sessions take turns."""

CROWDED_S = 0.25
"""A session is crowded for so long after one of its jobs found no free lane. A guess."""


RAMP_S = 0.02
"""Beside other sessions each further context waits for so much longer a crowd: those that begin at the same time shall
be seen first. A guess."""


class ContextOwner(Protocol):
    """Lanes as their neighbours see them."""

    @property
    def at_work(self) -> int:
        """Lanes that run something now."""

    @property
    def opened(self) -> int:
        """Lanes that have contexts."""

    def open_more(self) -> None:
        """Give further lanes contexts for jobs that wait."""

    def shed(self, keep: int) -> None:
        """Give contexts back until so many are left: idle lanes now, busy ones when they are through.

        What serves the only lane on a core of a schedule stays.
        """


class Sharer:
    """One engine's place on a board.

    Attributes:
        board: The board.
        arbiter: Who goes next; ``None`` without the native library: then the driver's queues decide.
        priority: Class of its inferences.
        number: Its number among the engines there were on the board.
    """

    def __init__(self, board: Board, arbiter: Arbiter | None, priority: str, reserve: int) -> None:
        self.board = board
        self.arbiter = arbiter
        self.priority = priority
        self.number = next(board.numbers)
        self._reserve = reserve
        self._owner: weakref.ref[ContextOwner] | None = None
        self._trying = threading.Lock()
        self._crowded_at = self._told_at = self._crowded_since = -CROWDED_S
        if arbiter is not None:
            arbiter.reserve(reserve)

    def own(self, owner: ContextOwner) -> None:
        """Says whose contexts they are; before this, and for lanes that were told to be so many, there is no limit."""
        self._owner = weakref.ref(owner)

    @property
    def is_elastic(self) -> bool:
        """Whether its number of contexts follows what others need."""
        return self._owner is not None

    def guard(self, segments: Iterable[int], weight: int) -> None:
        """Let the inferences of native segments take turns with those of others."""
        if self.arbiter is not None:
            for segment in segments:
                self.arbiter.guard(segment, self.number, self.priority, weight)

    def gate(self, weight: int = 1) -> Gate | None:
        """A gate for inferences that do not run in a native segment; ``None`` where there is no arbiter."""
        return None if self.arbiter is None else self.arbiter.gate(self.priority, weight, self.number)

    def may_open(self, opened: int) -> bool:
        """Whether the engine, which has so many contexts and a job that finds none of them free, may open another."""
        if not self.is_elastic:
            return True
        now = time.monotonic()
        if now - self._crowded_at > CROWDED_S:
            self._crowded_since = now
        self._crowded_at = now
        if opened >= self.board.share_of(self):
            return False
        if opened and self.board.is_shared and now - self._crowded_since < opened * RAMP_S:
            self._try_again()
            return False
        return True

    def _try_again(self) -> None:
        """Have the lanes opened that could not be yet, although no other job may come to ask for it."""
        if self._trying.acquire(blocking=False):
            try:
                threading.Thread(target=self._open_later, name="ort_rknn opens more", daemon=True).start()
            except RuntimeError:  # the interpreter is ending, or the system has no thread left
                self._trying.release()

    def _open_later(self) -> None:
        time.sleep(RAMP_S)
        self._trying.release()
        owner = self.owner
        if owner is not None:
            owner.open_more()

    def crowded(self) -> bool:
        """Notes that a job found no free lane; whether it is time to call :meth:`make_room` again."""
        self._crowded_at = now = time.monotonic()
        if now - self._told_at <= CROWDED_S:
            return False
        self._told_at = now
        return True

    def make_room(self) -> None:
        """Has the others give back what is now this engine's share. Called without a lock."""
        self.board.rebalance()

    def is_crowded(self) -> bool:
        """Whether jobs of it had to wait a moment ago."""
        return time.monotonic() - self._crowded_at <= CROWDED_S

    @property
    def owner(self) -> ContextOwner | None:
        """Lanes of the engine, while they live."""
        return None if self._owner is None else self._owner()

    def leave(self) -> None:
        """The engine is closed."""
        self.board.remove(self)
        reserve, self._reserve = self._reserve, 0
        if self.arbiter is not None:
            self.arbiter.reserve(-reserve)


class Board:
    """One NPU and all engines of this process that use it.

    Args:
        cores: Its cores.
        library: The native library, if there is one.

    Attributes:
        numbers: Gives the next engine its number.
    """

    def __init__(self, cores: int, library: NativeLibrary | None) -> None:
        self.cores = cores
        self._library = library
        self._arbiters: dict[str, Arbiter] = {}
        self._lock = threading.RLock()
        self._sharers: list[Sharer] = []
        self.numbers = itertools.count()
        self._joined = os.getpid()  # so that programs begin at different cores, too

    def join(self, priority: str, reserve: int, scope: Scope = "process") -> Sharer:
        """A new engine's place."""
        with self._lock:
            arbiter = self._arbiters.get(scope)
            if arbiter is None and self._library is not None:
                from ort_rknn.engine.sharing.arbiter import Arbiter  # not for devices that only pretend

                arbiter = self._arbiters[scope] = Arbiter(self._library, self.cores, scope)
            sharer = Sharer(self, arbiter, priority, reserve)
            self._sharers.append(sharer)
        return sharer

    def remove(self, sharer: Sharer) -> None:
        """An engine is closed."""
        with self._lock:
            if sharer in self._sharers:
                self._sharers.remove(sharer)

    @property
    def is_shared(self) -> bool:
        """Whether several engines are open."""
        return len(self._sharers) > 1

    def next_core(self) -> int:
        """The core at which a new session begins, where the driver does not spread its work."""
        with self._lock:
            self._joined += 1
            return self._joined % self.cores

    def share_of(self, sharer: Sharer) -> int:
        """Contexts that an engine may have now.

        Two a core alone, one a core beside others at work, its part of two a core among others that are crowded, too.
        """
        crowded, at_work = 1, 0
        for other in list(self._sharers):
            owner = other.owner
            if other is sharer or owner is None:
                continue
            if other.is_crowded():
                crowded += 1
            else:
                at_work += owner.at_work
        if crowded == 1:
            return self.cores if at_work else 2 * self.cores
        return max(1, (2 * self.cores - at_work) // crowded)

    def rebalance(self) -> None:
        """Has every engine shed what exceeds its share."""
        for sharer in list(self._sharers):
            owner = sharer.owner
            if owner is not None:
                share = self.share_of(sharer)
                if owner.opened > share:
                    owner.shed(share)


_boards: dict[tuple[str, int], Board] = {}
_lock = threading.Lock()


def board_of(device: Any) -> Board | None:
    """The board a device is on; ``None`` for devices that are no NPU (they have no attribute ``board``)."""
    name = getattr(device, "board", None)
    if name is None:
        return None
    with _lock:
        board = _boards.get((name, device.cores))
        if board is None:
            board = _boards[name, device.cores] = Board(device.cores, getattr(device, "native_library", None))
    return board


def _forget_boards() -> None:
    """In a forked child: no lock can be trusted, and no engine came along."""
    global _lock
    _lock = threading.Lock()
    _boards.clear()


os.register_at_fork(after_in_child=_forget_boards)
