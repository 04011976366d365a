"""The cache of compiled models: the second start of a session needs no toolkit and no onnx.

An entry is a folder named by everything that can change the result. It is written under another name and renamed, one
process converts while others wait for its lock, and what is damaged is made again. A cache that cannot be written is
no error: everything works without it, only slowly.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ort_rknn_converters.cache.key import key_of
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import (
    FROZEN,
    CompiledModelError,
    ConvertError,
    NotAllOnNpu,
    ToolkitBroken,
    ToolkitFailed,
    VerificationFailed,
    WrongNumbers,
    freeze,
    thaw,
)
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import make_private, read_own, write_own
from ort_rknn_converters.util.plain_data import NUMBER, TEXT, maybe, parse_json, record
from ort_rknn_converters.util.user_dirs import cache_directory, is_not_ours, unusable

__all__ = ["Cache", "Entry", "cache_directory", "key_of", "load_or_convert"]

_ENTRY = "entry.json"
_NEW, _OLD = ".new", ".old"
_MOST_ENTRY = 1 << 20  # bytes: a failure carries the end of the compiler's log
_ENTRY_FORM = record(
    {"model": TEXT, "target": TEXT, "toolkit_version": maybe(TEXT), "failure": maybe(FROZEN), "created": NUMBER}
)
LONGEST_WAIT_S = 1800.0
"""Longest wait for another process that converts the same model. A guess: the largest model seen takes 10 minutes on a
PC, and whoever waits would need as long."""

_REMEMBERED: tuple[type[ConvertError], ...] = (NotAllOnNpu, ToolkitFailed, VerificationFailed, WrongNumbers)
"""Failures that come again with the same model, options and toolkit, unless they are of the moment. A missing toolkit
or a full disk is."""

_REMEMBERED_NOTE = " (remembered from an earlier try; `ort-rknn cache clear` forgets it)"

_warned: set[str] = set()


@frozen
class Entry:
    """One entry of the cache.

    Attributes:
        key: Its folder's name.
        model: The model's file name, or ``(bytes)``.
        target: SoC.
        failure: Why the conversion failed; empty for a compiled model.
        toolkit_version: Of the toolkit there was; empty when there was none.
        size: Bytes.
        used: When it was last used, in seconds since the epoch.
        sound: Whether its own description can be read.
    """

    key: str
    model: str
    target: str
    failure: str
    toolkit_version: str
    size: int
    used: float
    sound: bool = True


class Cache:
    """The entries in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "models"

    def lookup(self, key: str, toolkit_version: str | None) -> CompiledModel | None:
        """The compiled model stored under ``key``, or ``None``.

        Args:
            key: From :func:`key_of`.
            toolkit_version: Of the toolkit there is. An entry made with another one is not used; without a toolkit
                any entry is better than none.

        Raises:
            ConvertError: The conversion is known to fail: the same error as then.
        """
        folder = self.folder / key
        try:
            facts = _facts(folder)
            if toolkit_version is not None and facts["toolkit_version"] not in (toolkit_version, None):
                return None
            if facts["toolkit_version"] is None and toolkit_version is not None:
                return None
            failure = facts["failure"]
            found = None if failure else CompiledModel.load_folder(folder)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger().info("the cache entry %s is damaged and is made again: %s", folder, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(folder / _ENTRY)
        if failure:
            raise thaw(failure, _REMEMBERED_NOTE)
        return found

    def commit(
        self, key: str, made: CompiledModel | ConvertError, *, model: str, target: str, toolkit_version: str | None
    ) -> None:
        """Store a compiled model or a failure under ``key``. The caller holds the key's lock.

        Args:
            key: From :func:`key_of`.
            made: What came of the conversion.
            model: What the list of entries calls it.
            target: SoC.
            toolkit_version: Of the toolkit there is; ``None`` without one.

        Raises:
            OSError: The folder cannot be written.
        """
        new = self.folder / f"{_NEW}-{key}"
        self._sweep(key)
        make_private(new)
        try:
            if isinstance(made, CompiledModel):
                made.save_folder(new)
            facts = {
                "model": model,
                "target": target,
                "toolkit_version": toolkit_version,
                "failure": None if isinstance(made, CompiledModel) else freeze(made),
                "created": time.time(),
            }
            write_own(new / _ENTRY, json.dumps(facts))
            for file in new.iterdir():
                _sync(file)
            final = self.folder / key
            if final.exists():
                final.rename(self.folder / f"{_OLD}-{key}")
            new.rename(final)
        finally:
            self._sweep(key)

    def _sweep(self, key: str) -> None:
        """Remove what a killed process left of this entry: nobody else works on it, the lock is ours."""
        from shutil import rmtree

        for prefix in (_NEW, _OLD):
            rmtree(self.folder / f"{prefix}-{key}", ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, key: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the entry's lock: others that want the same model wait, whoever dies gives it back.

        Args:
            key: From :func:`key_of`.
            waiting: Called once if there is somebody to wait for.

        Raises:
            TimeoutError: Another process has held it for :data:`LONGEST_WAIT_S`, or is stopped.
            OSError: The folder cannot be written.
        """
        make_private(self.folder)
        with self._held(key, LONGEST_WAIT_S, waiting):
            yield

    def _held(self, key: str, timeout: float, waiting: Callable[[], None] | None = None) -> Any:
        from ort_rknn_converters.util.file_lock import held  # not at a start from the cache

        return held(self.folder / f"{key}.lock", timeout=timeout, waiting=waiting)

    def entries(self) -> list[Entry]:
        """All entries, the most recently used first."""
        found = [_entry(folder) for folder in self._folders() if not folder.name.startswith(".")]
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> int:
        """Remove every entry that nobody is writing; returns the bytes freed."""
        return sum(
            self._remove(folder.name.removeprefix(f"{_NEW}-").removeprefix(f"{_OLD}-")) for folder in self._folders()
        )

    def prune(self, limit: int, *, keep: str = "") -> int:
        """Remove the least recently used entries until the rest takes at most ``limit`` bytes.

        Args:
            limit: Bytes.
            keep: Key of an entry that stays whatever its size, because it is in use.

        Returns:
            The bytes freed.
        """
        freed = 0
        room = limit
        for entry in self.entries():
            room -= entry.size
            if room < 0 and entry.key != keep:
                freed += self._remove(entry.key)
        return freed

    def _folders(self) -> list[Path]:
        try:
            return sorted(entry for entry in self.folder.iterdir() if entry.is_dir() and not entry.is_symlink())
        except OSError:
            return []

    def _remove(self, key: str) -> int:
        with contextlib.suppress(OSError), self._held(key, 0):  # which may raise Timeout
            folder = self.folder / key
            size = _size(folder)
            if folder.exists():
                folder.rename(self.folder / f"{_OLD}-{key}")
            self._sweep(key)
            return size
        return 0


def load_or_convert(
    model: str | os.PathLike[str] | bytes,
    options: ConvertOptions | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Any = None,
    compile: Any = None,
) -> CompiledModel:
    """The compiled form of a model: from the cache, or converted now and put there.

    A hit needs neither the toolkit nor onnx.

    Args:
        model: Path or bytes.
        options: How to convert.
        cache_dir: The cache's folder; see :func:`cache_directory`.
        progress: See :class:`ort_rknn_converters.progress.Progress`.
        compile: See :func:`ort_rknn_converters.pipeline.convert.convert`.

    Raises:
        ConvertError: As :func:`ort_rknn_converters.pipeline.convert.convert`; what failed once is not tried again with
            the same toolkit until ``ort-rknn cache clear``. What depends on the moment is not kept: see
            :mod:`ort_rknn_converters.cache.pause`.
    """
    from ort_rknn_converters.toolkit.setup.environment import toolkit_version

    options = options or ConvertOptions()
    cache = Cache(cache_directory(cache_dir))
    key = key_of(model, options)
    version = toolkit_version()
    found = cache.lookup(key, version)
    if found is not None:
        return found
    from ort_rknn_converters.cache.pause import Pauses
    from ort_rknn_converters.util.file_lock import holder

    pauses, lock = Pauses.of(cache_directory(cache_dir)), cache.folder / f"{key}.lock"

    def waiting() -> None:
        process, _ = holder(lock)
        said = f"another process{f' ({process})' if process else ''} converts this model"
        logger().info("%s, waiting for it", said)
        if progress is not None:
            progress.report("wait", said)

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(cache.lock(key, waiting))
        except TimeoutError:  # filelock's is one
            process, state = holder(lock)
            logger().warning(
                "process %s, which is %s, holds the conversion of this model for too long: it is converted without the"
                " cache",
                process or "(unknown)",
                "stopped" if state in ("T", "t") else "at work",
            )
            return _convert(model, options, progress, compile, cache_dir)
        except OSError as error:
            _warn_once(cache.folder, error)
            return _convert(model, options, progress, compile, cache_dir)
        found = cache.lookup(key, version) or pauses.enforce(key)
        if found is not None:
            return found
        name = "(bytes)" if isinstance(model, (bytes, bytearray, memoryview)) else Path(model).name
        made: CompiledModel | ConvertError
        try:
            made = _convert(model, options, progress, compile, cache_dir)
        except ToolkitBroken as error:
            if error.dear:
                pauses.begin(key, error, None)
            raise
        except _REMEMBERED as error:
            made = error
        if failure := _of_the_moment(made):
            pauses.begin(key, failure, made if isinstance(made, CompiledModel) else None)
            if isinstance(made, ConvertError):
                raise made
            return made
        pauses.end(key)
        try:
            cache.commit(key, made, model=name, target=options.target, toolkit_version=version)
            if isinstance(made, CompiledModel):
                made = CompiledModel.load_folder(cache.folder / key)
        except (OSError, CompiledModelError) as error:
            _warn_once(cache.folder, error)
    if isinstance(made, ConvertError):
        raise made
    from ort_rknn_converters.cache.limit import limit  # not at a start from the cache

    cache.prune(limit(), keep=key)
    return made


def _of_the_moment(made: CompiledModel | ConvertError) -> ConvertError | None:
    if isinstance(made, CompiledModel):
        return ToolkitFailed(made.provisional, kind="killed") if made.provisional else None
    return made if isinstance(made, ToolkitFailed) and made.passing else None


def _convert(model: Any, options: ConvertOptions, progress: Any, compile: Any, cache_dir: Any) -> CompiledModel:
    from ort_rknn_converters.extras import demand_complete
    from ort_rknn_converters.util.lazy_imports import defer_sympy

    demand_complete("converting a model")
    with defer_sympy():
        from ort_rknn_converters.pipeline.convert import convert

    return convert(
        model, options=options, progress=progress, compile=compile, known_failures=cache_directory(cache_dir)
    )


def _warn_once(folder: Path, error: Exception) -> None:
    if str(folder) not in _warned and not is_not_ours(folder):  # which was said
        _warned.add(str(folder))
        why = unusable(folder) or f"{folder} cannot be written ({getattr(error, 'strerror', None) or error})"
        logger().warning(
            "compiled models are not kept, because %s. Every start converts again; set ORT_RKNN_CACHE_DIR to a folder"
            " with room",
            why,
        )


def _facts(folder: Path) -> Any:
    """Reads an entry's description; OSError and ValueError where there is none of ours."""
    facts = parse_json(read_own(folder / _ENTRY, _MOST_ENTRY), _ENTRY_FORM)
    if facts["failure"] and facts["failure"]["class"] not in {kind.__name__ for kind in _REMEMBERED}:
        raise ValueError(f"{facts['failure']['class']} is nothing that is remembered")
    return facts


def _entry(folder: Path) -> Entry:
    size = _size(folder)
    try:
        facts = _facts(folder)
        failure = facts["failure"]["message"].splitlines()[0] if facts["failure"] else ""
        used = (folder / _ENTRY).stat().st_mtime
        return Entry(folder.name, facts["model"], facts["target"], failure, facts["toolkit_version"] or "", size, used)
    except (OSError, ValueError, IndexError):
        return Entry(folder.name, "", "", "damaged", "", size, 0.0, sound=False)


def _size(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(file.lstat().st_size for file in folder.iterdir())
    return 0


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
