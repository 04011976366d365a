"""Bytes that may still be on disk, or in chunks: compiled code and ONNX parts, read only when somebody needs them.

A device that takes a path never reads the bytes at all, so opening a cached model costs a few ``stat`` calls.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.proofs import LARGE, digest_of_own, is_hashed, prove_later
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import open_regular, read_own, write_own

__all__ = [
    "MANIFEST",
    "WEIGHTS_FOLDER",
    "Blob",
    "Buffer",
    "BytesBlob",
    "FileBlob",
    "StoredBlob",
    "digest",
]

Buffer: TypeAlias = "bytes | memoryview"
"""Bytes that need not have been copied to be passed on."""

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""onnxruntime's session option: the folder of the external data of a model that is given as bytes."""

MANIFEST = "manifest.json"
"""The file of a cache entry that lists its parts; without it there is no entry."""

_CHUNK = 1 << 18  # bytes read at a time
_MOST_NOTE = 1 << 10  # bytes of a note that says what a derived file hashes to


def digest(data: bytes) -> str:
    """SHA-256 of ``data`` in hexadecimal: the digest used everywhere in compiled models."""
    return hashlib.sha256(data).hexdigest()


class Blob(ABC):
    """Bytes; blobs are equal when their bytes are, wherever they lie."""

    @property
    @abstractmethod
    def path(self) -> str | None:
        """The file that holds exactly these bytes, or ``None``."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of bytes."""

    @abstractmethod
    def chunks(self) -> Iterator[Buffer]:
        """Yields the content in chunks, without copying."""

    def read(self) -> bytes:
        """The bytes."""
        return b"".join(self.chunks())

    def files(self, name: str) -> dict[str, Iterator[Buffer]]:
        """Files to write, name to content, that keep the bytes: a model above 2 GB takes two.

        Raises:
            CompiledModelError: No file can hold it.
        """
        return {name: self.chunks()}

    def source(self) -> tuple[str | bytes, str]:
        """A model as onnxruntime takes it: path or bytes, and their :data:`WEIGHTS_FOLDER`, if they need any."""
        return self.path or self.read(), ""

    def digest(self) -> str:
        """Computes the :func:`digest` of the bytes, which are never all in memory for that."""
        found = hashlib.sha256()
        for chunk in self.chunks():
            found.update(chunk)
        return found.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())


@frozen
class BytesBlob(Blob):
    """Bytes in memory."""

    data: bytes = field(repr=False)

    @property
    def path(self) -> None:
        """There is no file."""
        return

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def digest(self) -> str:
        """Computed once: it takes longer than to write them."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest(self.data)

    def chunks(self) -> Iterator[Buffer]:
        """All at once."""
        yield self.data

    def read(self) -> bytes:
        """The bytes."""
        return self.data

    __eq__, __hash__ = Blob.__eq__, Blob.__hash__

    def __repr__(self) -> str:
        return f"BytesBlob({self.size} bytes)"


@frozen
class FileBlob(Blob):
    """A whole file.

    Attributes:
        file: Where it is.
        sha256: What its content must hash to; checked by :meth:`read`. ``None`` = not known.
    """

    file: str
    sha256: str | None = None

    @property
    def path(self) -> str:
        """The file that holds exactly these bytes."""
        return self.file

    @property
    def size(self) -> int:
        """Number of bytes."""
        return Path(self.file).stat().st_size

    def chunks(self) -> Iterator[Buffer]:
        """Block by block.

        Raises:
            CompiledModelError: As :meth:`read`; what is damaged is found behind the last block.
        """
        found = hashlib.sha256()
        try:
            for chunk in self._blocks():
                if self.sha256 is not None:
                    found.update(chunk)
                yield chunk
        except OSError as error:
            raise self._unreadable(error) from error
        if self.sha256 is not None and found.hexdigest() != self.sha256:
            raise self._damaged()

    def _blocks(self) -> Iterator[bytes]:
        """Yields the content as it is read; raises :class:`OSError`."""
        with open_regular(self.file) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    def read(self) -> bytes:
        """The bytes.

        Raises:
            CompiledModelError: The file is gone, unreadable or not what was stored.
        """
        try:
            with open_regular(self.file) as stream:
                data = stream.read()
        except OSError as error:
            raise self._unreadable(error) from error
        if self.sha256 is not None and digest(data) != self.sha256:
            raise self._damaged()
        return data

    def check(self) -> None:
        """Prove the content, without ever holding all of it: compiled code has hundreds of megabytes.

        Raises:
            CompiledModelError: As :meth:`read`.
        """
        for _ in self.chunks():
            pass

    def _unreadable(self, error: OSError) -> CompiledModelError:
        return CompiledModelError(f"cannot read {self.file}: {error.strerror or error}. Convert the model again")

    def _damaged(self) -> CompiledModelError:
        return CompiledModelError(f"{self.file} is damaged (its digest differs). Convert the model again")

    __eq__, __hash__ = Blob.__eq__, Blob.__hash__


class StoredBlob(FileBlob):
    """A file in the cache: proven before it is opened, and what is computed from it may be kept beside it."""

    @property
    def path(self) -> str:
        """The file, whose content is what its digest says; hashed once a process.

        Raises:
            CompiledModelError: As :meth:`vouch`.
        """
        self.vouch()
        return self.file

    def vouch(self) -> None:
        """Prove the content before it is opened; of large ONNX while it is.

        Of the latter :func:`ort_rknn_converters.onnx_file.proofs.settle_proofs` gives the result. Compiled code goes to
        the vendor's closed runtime and is proven first. ONNX goes to onnxruntime, which takes as long to open it as
        hashing does, on another core.

        Raises:
            CompiledModelError: It is not what was stored: the entry it belongs to is given up, and the next look-up
                misses it.
        """
        large = self.sha256 is not None and self.file.endswith(".onnx") and self.size >= LARGE
        if large and not self._is_known():
            prove_later(self, self._found)
        else:
            self.prove()

    def _is_known(self) -> bool:
        with contextlib.suppress(OSError):
            return is_hashed(Path(self.file).stat())
        return False

    def prove(self) -> None:
        """Compare the content with the digest, unless this process has and the file is the one it was.

        Raises:
            CompiledModelError: It is gone, changed, or not a file of ours.
        """
        try:
            found = self._found()
        except OSError as error:
            raise self._unreadable(error) from error
        if self.sha256 is not None and found != self.sha256:
            self._give_up()
            raise self._damaged()

    def _give_up(self) -> None:
        """Remove what is damaged: a file that was computed alone, else the list of the entry's parts."""
        file = Path(self.file)
        note = _note_of(file)
        for gone in (file, note) if note.exists() else (file.with_name(MANIFEST),):
            with contextlib.suppress(OSError):
                gone.unlink()

    def _found(self) -> str:
        """Computes the digest of the content, once a process."""
        return digest_of_own(self.file)

    def derived(self, name: str, make: Callable[[], bytes]) -> BytesBlob | FileBlob:
        """The bytes ``make`` gives, kept in a file of their own as ``<stem>.<name>`` from the first time on.

        A note beside it says what it and this file hash to: where one of the two is another now, it is made again.

        Args:
            name: Says what it is, and by which rule it was made; with the ending.
            make: Makes the bytes; called when there is no such file.

        Returns:
            The file; or the bytes, where the folder cannot be written.
        """
        source = Path(self.file)
        file = source.with_name(f"{source.stem}.{name}")
        note = _note_of(file)
        try:
            own = self.sha256 or self._found()
        except OSError:
            return BytesBlob(make())
        with contextlib.suppress(OSError, ValueError, CompiledModelError):
            ours, theirs = read_own(note, _MOST_NOTE).decode("ascii").split()
            if ours == own and file.is_file():
                kept = StoredBlob(str(file), theirs)
                kept.vouch()
                return kept
        data = make()
        made = digest(data)
        try:
            _write(file, data)
            _write(note, f"{own} {made}".encode("ascii"))
        except OSError:
            return BytesBlob(data)
        return StoredBlob(str(file), made)

    __eq__, __hash__ = Blob.__eq__, Blob.__hash__


def _note_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _write(file: Path, data: bytes) -> None:
    new = file.with_name(f".new-{os.getpid()}-{time.time_ns()}")
    try:
        write_own(new, data)
        with new.open("rb") as stream:
            os.fsync(stream.fileno())
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
