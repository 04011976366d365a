"""Account of the NPU memory of this process, and room for new contexts: idle ones are closed before one is refused.

Every context is entered with the bytes the runtime says it has, from when it is opened until it is destroyed. Whoever
opens asks for room first. Where the budget leaves none, contexts that nobody uses are closed, those unused longest
first; one that is at work never is. They open again at their session's next call.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ort_rknn.errors import NpuMemoryFull

__all__ = ["LEDGER", "Entry", "Holder", "Ledger", "Room", "SizeWasWrong", "default_budget", "opening_for"]

WAIT_S = 10.0
"""How long a session that has no context waits for others to be through. EZ RKNN Async's limit for a submission."""

POLL_S = 0.002
"""How often those who wait look for contexts that have become idle. A guess: an inference takes some milliseconds."""

SETTLED_S = 1.0
"""Contexts used within this time are not closed for one that only adds a core to a session. A guess."""


TRIES = 4
"""How often a room is made anew because what was opened in it was larger than expected. A guess."""

_DOMAIN = 4 << 30
"""Bytes one IOMMU domain can address: the wall owners meet on boards of any size (rknn-toolkit2#287)."""

_SHARE_OF_RAM = 0.8
"""Part of the RAM, which is the NPU's memory too, that may be taken before idle contexts are closed. A guess."""

T = TypeVar("T")


@lru_cache(maxsize=1)
def default_budget() -> int:
    """Bytes where nobody named any: the NPU's address space, or a part of the RAM where that is less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return _DOMAIN
    return min(_DOMAIN, int(kilobytes * 1024 * _SHARE_OF_RAM))


class SizeWasWrong(NpuMemoryFull):
    """Raised when a context takes more than the room that was made for it: by now its size is known."""


class Holder(Protocol):
    """An object that has contexts and can open them again: an engine."""

    @property
    def last_used(self) -> float:
        """Time at which it last got or ended an inference, as ``time.monotonic`` has it."""

    @property
    def asleep(self) -> bool:
        """Whether it gave all it had back, and opens again at its next inference."""

    def open_briefly(self) -> Any:
        """Contexts of its own beside all others, which the caller closes."""

    def give_back(self, *, everything: bool) -> int:
        """Close contexts that are not at work; returns how many were closed.

        Args:
            everything: All of them, if none has an inference; else only those beside its first.
        """


class Entry:
    """An open context in the account.

    Attributes:
        size: Bytes.
    """

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class Room:
    """Bytes put aside for contexts that are being opened."""

    def __init__(self, size: int) -> None:
        self.left = size


class _Opener(threading.local):
    """On whose behalf this thread opens contexts."""

    holder: Holder | None = None
    extra = False
    room: Room | None = None


_opener = _Opener()


@contextmanager
def opening_for(holder: Holder | None, *, extra: bool) -> Iterator[None]:
    """Contexts opened in this thread are of this holder.

    Args:
        holder: Its own contexts are not closed for them.
        extra: It can do without: nothing that was used lately is closed for them, and nobody is waited for.
    """
    before = _opener.holder, _opener.extra
    _opener.holder, _opener.extra = holder, extra
    try:
        yield
    finally:
        _opener.holder, _opener.extra = before


class Ledger:
    """Account of one process. Every method may be called from any thread.

    Attributes:
        used: Bytes of all contexts that are open.
        most: The most there ever were.
        hungry: How many wait for room.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._holders: weakref.WeakSet[Holder] = weakref.WeakSet()
        self._budgets: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._known: dict[Any, int] = {}
        self._reserved = 0
        self.used = self.most = self.hungry = 0

    # -- who there is

    def enter(self, holder: Holder) -> None:
        """A holder's idle contexts may be closed from now on."""
        with self._changed:
            self._holders.add(holder)

    def limit(self, owner: object, budget: int | None) -> None:
        """Keep to a budget as long as its owner lives; ``None`` names none. The least of all holds."""
        if budget is not None:
            with self._changed:
                self._budgets[owner] = budget

    @property
    def budget(self) -> int:
        """Bytes all contexts together may have."""
        with self._changed:
            return min(self._budgets.values(), default=default_budget())

    # -- the account

    def known(self, key: Any) -> int | None:
        """Bytes a context of this code had when it was last opened."""
        return self._known.get(key)

    def learn(self, key: Any, size: int) -> None:
        """Remember the size of a context of this code."""
        if len(self._known) > 1000:  # shapes without end
            self._known.clear()
        self._known[key] = size

    def settle(self, room: Room, expected: int, size: int, what: str) -> Entry:
        """Enter a context that was opened in a room.

        Args:
            room: The room.
            expected: Bytes of the room that were for it.
            size: Bytes it has.
            what: The context, for the error.

        Raises:
            SizeWasWrong: It is larger than was expected, and there is no room: it must be closed.
        """
        entry = Entry(size)
        with self._changed:
            taken = min(expected, room.left)
            room.left -= taken
            self._reserved -= taken
            self.used += size
            self.most = max(self.most, self.used)
        while self._over() and self._displace(1):
            pass
        if self._over():
            self.forget(entry)
            raise SizeWasWrong(str(self._full(what, size)))
        return entry

    def forget(self, entry: Entry) -> None:
        """A context was destroyed."""
        with self._changed:
            self.used -= entry.size
            entry.size = 0
            self._changed.notify_all()

    # -- room

    def opened(self, size_of: Callable[[bool], int], what: str, open_them: Callable[[Room], T]) -> T:
        """Opens contexts in a room of their size; inside another room in that one.

        Args:
            size_of: Gives the bytes they are expected to take; given ``True``, as if nothing could be shared.
            what: The contexts, for the error.
            open_them: Opens them, and settles each with the room; called again in a larger room if that was too small.

        Raises:
            NpuMemoryFull: There is no room, though all idle contexts were closed, and nobody was through in time.
        """
        if _opener.room is not None:
            return open_them(_opener.room)
        for number in range(TRIES):
            with self._room(size_of(number > 0), what) as room:
                try:
                    return open_them(room)
                except SizeWasWrong as error:
                    wrong = error
        raise wrong

    @contextmanager
    def _room(self, size: int, what: str) -> Iterator[Room]:
        """Room for contexts that this thread opens."""
        room = self._reserve(size, what)
        _opener.room = room
        try:
            yield room
        finally:
            _opener.room = None
            with self._changed:
                self._reserved -= room.left
                room.left = 0
                self._changed.notify_all()

    def _reserve(self, size: int, what: str) -> Room:
        deadline = time.monotonic() + (0 if _opener.extra else self._wait_s)
        waiting = False
        try:
            while True:
                with self._changed:
                    if self.used + self._reserved + size <= self.budget:
                        self._reserved += size
                        return Room(size)
                    alone = size > self.budget
                if alone:
                    raise self._full(what, size)
                if self._displace(size):
                    continue
                if time.monotonic() >= deadline:
                    raise self._full(what, size)
                if not waiting:
                    waiting = True
                    self._count(1)
                with self._changed:
                    self._changed.wait(POLL_S)
        finally:
            if waiting:
                self._count(-1)

    def _count(self, step: int) -> None:
        with self._changed:
            self.hungry += step

    def _over(self) -> bool:
        with self._changed:
            return self.used + self._reserved > self.budget

    def _full(self, what: str, size: int) -> NpuMemoryFull:
        with self._changed:
            budget, used = self.budget, self.used + self._reserved
        text = f"no NPU memory for {what}: it needs {_shown(size)}"
        if size > budget:
            text += f", and memory_budget is {_shown(budget)}: raise it"
        else:
            waited = "" if _opener.extra else f" within {self._wait_s:g} s"
            text += (
                f", and of {_shown(budget)} (memory_budget) {_shown(used)} are taken by contexts at work; none became"
                f" idle{waited}. Close a session, or raise memory_budget"
            )
        return NpuMemoryFull(text)

    # -- closing what is idle

    def offer(self, holder: Holder) -> None:
        """A holder has nothing to do: if somebody waits for room, its contexts are closed."""
        if self.hungry and holder is not _opener.holder:
            holder.give_back(everything=True)

    def give_back_all(self) -> int:
        """Close every idle context but the opener's own; returns how many: the runtime itself has no memory left."""
        return sum(holder.give_back(everything=True) for holder in self._in_order())

    def asleep(self) -> list[Holder]:
        """Holders that gave all they had back, and are not closed."""
        with self._changed:
            return [holder for holder in self._holders if holder.asleep]

    def _in_order(self) -> list[Holder]:
        """Other holders than the one that opens, those unused longest first."""
        with self._changed:
            others = [holder for holder in self._holders if holder is not _opener.holder]
        if _opener.extra:
            settled = time.monotonic() - SETTLED_S
            others = [holder for holder in others if holder.last_used <= settled]
        return sorted(others, key=lambda holder: holder.last_used)

    def _displace(self, size: int) -> bool:
        """Close idle contexts until there is room for this much; second contexts go before a session's only one."""
        gave = 0
        for everything in (False, True):
            for holder in self._in_order():
                gave += holder.give_back(everything=everything)
                with self._changed:
                    if self.used + self._reserved + size <= self.budget:
                        return True
        return gave > 0

    def forked(self) -> None:
        """In the child of a fork nothing is open, and no lock can be trusted."""
        self._begin()


def _shown(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


LEDGER = Ledger()
"""The account of this process."""

os.register_at_fork(after_in_child=LEDGER.forked)
