"""The repository: a folder of model files, opened at the first call and closed when nobody has called for a while.

A model's name is its file's, with or without the ending; a name is looked up among the files and is never a path.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ort_rknn.remote.failures import Failure, Refusal, failure_of
from ort_rknn.serving.model import VERSION, OpenModel
from ort_rknn.serving.statistics import Statistics
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import is_file

__all__ = ["Entry", "Repository"]

ENDINGS = (".rknn.onnx", ".onnx", ".rknn")  # the first is what `ort-rknn convert` writes
FORGET_FAILURE_S = 10.0  # a file that could not be opened is tried again after so long, or when it changed (a guess)

_FRESH_S = 0.1  # how long a known name is taken without a look at the folder, which every call would wait for (a guess)
_SETTLED_NS = 100_000_000  # a folder's time of change may be older by the kernel's tick than a file that came later

Opener = Callable[[Path, str], Any]
"""Opens a session of a file for a class of calls."""


@frozen
class Entry:
    """A model in the index.

    Attributes:
        name: Its name.
        state: ``READY``, ``LOADING`` or ``UNAVAILABLE``, Triton's words.
        reason: Why it is not ready.
    """

    name: str
    state: str
    reason: str = ""


class _Slot:
    """A name that was asked for: its opening, or the model, or how it failed."""

    def __init__(self) -> None:
        self.opening: Future[OpenModel] = Future()
        self.model: OpenModel | None = None
        self.failed: Failure | None = None
        self.failed_at = 0.0
        self.stamp: tuple[int, int] = (0, 0)


class Repository:
    """The models of a folder.

    Args:
        folder: The files; what is put there later is found, too.
        opener: Opens a session.
        idle: Seconds without a call after which a model is closed; 0 keeps all.
        keep: Names that are not.
        clock: Seconds, monotonic.

    Attributes:
        places: Calls that the server lets in at once, which its models say; 0 where they do not.
    """

    def __init__(
        self,
        folder: Path,
        opener: Opener,
        *,
        idle: float = 300.0,
        keep: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places = 0
        self._folder = folder
        self._opener = opener
        self._idle = idle
        self._keep = keep
        self._clock = clock
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()  # several conversions at once would need several times the memory
        self._slots: dict[str, _Slot] = {}
        self._statistics: dict[str, Statistics] = {}
        self._closed = False
        self._listed: tuple[int, dict[str, Path]] = (0, {})  # when the folder changed, and what was in it
        self._fresh: tuple[float, dict[str, Path]] = (0.0, {})  # until when the files found last are taken as they are

    # --- names --------------------------------------------------------------------------------------------------------

    def files(self) -> dict[str, Path]:
        """Name -> file, of every model there is. A name that two files share is each file's whole name instead.

        Hidden files are none: other systems leave such beside each file that is copied (``._yolo.onnx``).
        While the folder cannot be read, such as a mount that is away, the files are those that were there last.
        """
        changed, known = self._listed
        try:
            now = os.stat(self._folder).st_mtime_ns  # noqa: PTH116 - of every call
            if now == changed:
                return known
            with os.scandir(self._folder) as found:
                names = sorted(one.name for one in found if _is_name(one.name) and is_file(one))
        except OSError:
            return self._fresh[1] or known
        files = self._named(names)
        if time.time_ns() - now > _SETTLED_NS:
            self._listed = now, files
        return files

    def _named(self, names: list[str]) -> dict[str, Path]:
        stems = [_stem(name) for name in names]
        return {
            stem if stems.count(stem) == 1 else name: self._folder / name
            for stem, name in zip(stems, names, strict=True)
        }

    def find(self, name: str, version: str = "") -> tuple[str, Path]:
        """The model's own name and its file.

        Raises:
            Refusal: There is none.
        """
        until, files = self._fresh
        if name not in files or self._clock() >= until:
            files = self.files()
            self._fresh = self._clock() + _FRESH_S, files
        if version not in ("", VERSION):
            raise Refusal("NOT_FOUND", f"model {name!r} has no version {version!r}: every model has version 1 only")
        if name in files:
            return name, files[name]
        for known, path in files.items():
            if path.name == name:
                return known, path
        shared = [path.name for path in files.values() if _stem(path.name) == name]
        if shared:
            raise Refusal("NOT_FOUND", f"several files are called {name!r}: ask for one of {', '.join(shared)}")
        some = ", ".join(list(files)[:10]) or "none"
        raise Refusal("NOT_FOUND", f"there is no model {name!r} in the served folder; there are: {some}")

    def index(self) -> list[Entry]:
        """Every model and its state."""
        with self._lock:
            slots = dict(self._slots)
        return [_entry(name, slots.get(name)) for name in self.files()]

    def is_ready(self, name: str, version: str) -> bool:
        """Whether a call would be served: also by a model that is not open yet, or clients would wait for ever.

        Raises:
            Refusal: There is no such model.
        """
        known, path = self.find(name, version)
        with self._lock:
            slot = self._slots.get(known)
            return slot is None or slot.model is not None or (slot.failed is not None and self._try_again(slot, path))

    def statistics(self, name: str) -> Statistics:
        """The numbers of a model that was found."""
        known = self._statistics.get(name)
        if known is None:
            with self._lock:
                known = self._statistics.setdefault(name, Statistics())
        return known

    def all_statistics(self) -> dict[str, Statistics]:
        """The numbers of every model that was called."""
        with self._lock:
            return dict(self._statistics)

    # --- opening and closing ------------------------------------------------------------------------------------------

    @contextmanager
    def use(self, name: str, version: str, timeout: float) -> Iterator[OpenModel]:
        """An open model, which stays open inside; opened now if it is not.

        Raises:
            Refusal: There is no such model, it cannot be opened, or not in time.
        """
        model = self.acquire(*self.find(name, version), timeout)
        try:
            yield model
        finally:
            self.release(model)

    def release(self, model: OpenModel) -> None:
        """Gives back a model that was acquired."""
        with self._lock:
            model.users -= 1
            model.used_at = self._clock()
            last = model.retired and model.users == 0
        if last:
            model.close()

    def acquired(self, known: str) -> OpenModel | None:
        """The model of a name that :meth:`find` has found, kept open until it is released; ``None`` if it is not."""
        with self._lock:
            slot = self._slots.get(known)
            if slot is None or slot.model is None:
                return None
            slot.model.users += 1
            return slot.model

    def acquire(self, known: str, path: Path, timeout: float) -> OpenModel:
        """Opens a model that :meth:`find` has found, if it is not open, and keeps it open until it is released.

        Raises:
            Refusal: It cannot be opened, or not in time.
        """
        deadline = self._clock() + timeout
        while True:
            with self._lock:
                if self._closed:
                    raise Refusal("UNAVAILABLE", "the server is going down")
                slot = self._slots.get(known)
                if slot is None or self._try_again(slot, path):
                    slot = self._slots[known] = self._begin(known, path)
                if slot.model is not None:
                    slot.model.users += 1
                    return slot.model
                opening = slot.opening
            try:
                opening.exception(max(0.0, deadline - self._clock()))
            except (TimeoutError, FutureTimeout):
                text = f"model {known!r} is still being opened; ask again, or wait for longer"
                raise Refusal("DEADLINE_EXCEEDED", text, "InferenceTimeout") from None
            if slot.failed is not None:
                raise Refusal.of(slot.failed)

    def _try_again(self, slot: _Slot, path: Path) -> bool:
        """Whether the file that could not be opened is another now, or the failure old."""
        if slot.failed is None:
            return False
        return slot.stamp != _stamp(path) or self._clock() - slot.failed_at > FORGET_FAILURE_S

    def _begin(self, name: str, path: Path) -> _Slot:
        slot = _Slot()
        slot.stamp = _stamp(path)
        self._statistics.setdefault(name, Statistics())
        threading.Thread(target=self._open, args=(slot, name, path), name=f"ort_rknn load {name}", daemon=True).start()
        return slot

    def _open(self, slot: _Slot, name: str, path: Path) -> None:
        try:
            with self._one_at_a_time:
                begun = self._clock()
                model = OpenModel(
                    name,
                    lambda priority: self._opener(path, priority),
                    self._clock,
                    self.places,
                    self.statistics(name),
                )
        except BaseException as error:
            logger().warning("model %s could not be opened: %s", name, error)
            with self._lock:
                slot.failed, slot.failed_at = failure_of(error), self._clock()
            slot.opening.set_exception(Refusal.of(slot.failed))
            return
        logger().info("model %s is open (%.1f s)", name, self._clock() - begun)
        with self._lock:
            slot.model = model
            gone = self._closed or self._slots.get(name) is not slot
            model.retired = gone
        slot.opening.set_result(model)
        if gone:
            model.close()

    def load(self, name: str, timeout: float) -> None:
        """Open a model, anew if it is open: its file may be another now.

        Raises:
            Refusal: As :meth:`use`.
        """
        known, _ = self.find(name)
        self.unload(known)
        with self.use(known, "", timeout):
            pass

    def unload(self, name: str) -> None:
        """Close a model, once the calls under way have ended; the next call opens it again.

        Raises:
            Refusal: There is no such model.
        """
        known, _ = self.find(name)
        with self._lock:
            slot = self._slots.pop(known, None)
        self._retire(slot)

    def close_idle(self) -> None:
        """Close the models nobody has called for long enough, and those whose file is gone."""
        files = self.files()
        now = self._clock()
        retired = []
        with self._lock:
            for name, slot in list(self._slots.items()):
                model = slot.model
                if model is None or model.users or (name in files and not self._is_idle(name, model, now)):
                    continue
                logger().info("model %s is closed: nobody has called it for %.0f s", name, now - model.used_at)
                retired.append(self._slots.pop(name))
        for slot in retired:
            self._retire(slot)

    def _is_idle(self, name: str, model: OpenModel, now: float) -> bool:
        return self._idle > 0 and name not in self._keep and now - model.used_at >= self._idle

    def _retire(self, slot: _Slot | None) -> None:
        if slot is None or slot.model is None:
            return
        with self._lock:
            slot.model.retired = True
            unused = slot.model.users == 0
        if unused:
            slot.model.close()

    def open_models(self) -> list[OpenModel]:
        """The models that are open."""
        with self._lock:
            return [slot.model for slot in self._slots.values() if slot.model is not None]

    def close(self) -> None:
        """Close all; what is used is closed when its calls have ended."""
        with self._lock:
            self._closed = True
            slots, self._slots = list(self._slots.values()), {}
        for slot in slots:
            self._retire(slot)


def _is_name(name: str) -> bool:
    """Whether a file's name is a model's, which clients can say: no protocol carries one that is not UTF-8."""
    try:
        return bool(name.endswith(ENDINGS) and not name.startswith(".") and name.encode())
    except UnicodeEncodeError:
        return False


def _stem(name: str) -> str:
    return name.removesuffix(next(ending for ending in ENDINGS if name.endswith(ending)))


def _entry(name: str, slot: _Slot | None) -> Entry:
    if slot is None:
        return Entry(name, "UNAVAILABLE", "not loaded; the first call loads it")
    if slot.failed is not None:
        return Entry(name, "UNAVAILABLE", slot.failed.text)
    return Entry(name, "READY") if slot.model is not None else Entry(name, "LOADING")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
