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
from ort_rknn_converters.util.frozen import frozen

__all__ = ["WEIGHTS_FOLDER", "Blob", "Buffer", "BytesBlob", "FileBlob", "StoredBlob", "digest"]

Buffer: TypeAlias = "bytes | memoryview"
"""Bytes that need not have been copied to be passed on."""

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""onnxruntime's session option: the folder of the external data of a model that is given as bytes."""

_CHUNK = 1 << 18  # bytes read at a time


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
            with Path(self.file).open("rb", buffering=0) as stream:
                while chunk := stream.read(_CHUNK):
                    if self.sha256 is not None:
                        found.update(chunk)
                    yield chunk
        except OSError as error:
            raise self._unreadable(error) from error
        if self.sha256 is not None and found.hexdigest() != self.sha256:
            raise self._damaged()

    def read(self) -> bytes:
        """The bytes.

        Raises:
            CompiledModelError: The file is gone, unreadable or not what was stored.
        """
        try:
            data = Path(self.file).read_bytes()
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
        return CompiledModelError(f"cannot read {self.file}: {error.strerror}. Convert the model again")

    def _damaged(self) -> CompiledModelError:
        return CompiledModelError(f"{self.file} is damaged (its digest differs). Convert the model again")

    __eq__, __hash__ = Blob.__eq__, Blob.__hash__


class StoredBlob(FileBlob):
    """A file in the cache: what is computed from it may be kept beside it."""

    def derived(self, name: str, make: Callable[[], bytes]) -> BytesBlob | FileBlob:
        """The bytes ``make`` gives, kept in a file of their own as ``<stem>.<name>`` from the first time on.

        The file is written whole or not at all, and carries this file's time stamp: where that differs, one of the two
        was changed, and it is made again.

        Args:
            name: Says what it is, and by which rule it was made; with the ending.
            make: Makes the bytes; called when there is no such file.

        Returns:
            The file; or the bytes, where the folder cannot be written.
        """
        source = Path(self.file)
        file = source.with_name(f"{source.stem}.{name}")
        try:
            stamp = source.stat().st_mtime_ns
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime_ns == stamp:
                    return FileBlob(str(file))
        except OSError:
            return BytesBlob(make())
        data = make()
        try:
            _write(file, data, stamp)
        except OSError:
            return BytesBlob(data)
        return FileBlob(str(file))


def _write(file: Path, data: bytes, stamp: int) -> None:
    new = file.with_name(f".new-{os.getpid()}-{time.time_ns()}")
    try:
        with new.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.utime(new, ns=(stamp, stamp))
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
