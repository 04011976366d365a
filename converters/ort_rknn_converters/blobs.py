"""Bytes that may still be on disk: compiled code and ONNX parts, read only when somebody needs them.

A device that takes a path never reads the bytes at all, so opening a cached model costs a few ``stat`` calls.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ort_rknn_converters.errors import CompiledModelError

__all__ = ["Blob", "BytesBlob", "FileBlob", "digest"]


def digest(data: bytes) -> str:
    """SHA-256 of ``data`` in hexadecimal: the digest used everywhere in compiled models."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class BytesBlob:
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

    def read(self) -> bytes:
        """The bytes."""
        return self.data

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        return f"BytesBlob({self.size} bytes)"


@dataclass(frozen=True)
class FileBlob:
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

    def read(self) -> bytes:
        """The bytes.

        Raises:
            CompiledModelError: The file is gone, unreadable or not what was stored.
        """
        try:
            data = Path(self.file).read_bytes()
        except OSError as error:
            raise CompiledModelError(f"cannot read {self.file}: {error.strerror}. Convert the model again") from error
        if self.sha256 is not None and digest(data) != self.sha256:
            raise CompiledModelError(f"{self.file} is damaged (its digest differs). Convert the model again")
        return data

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    def __hash__(self) -> int:
        return hash(self.read())


Blob: TypeAlias = "BytesBlob | FileBlob"


def _same(one: BytesBlob | FileBlob, other: object) -> bool:
    """Blobs are equal when their bytes are, wherever they lie."""
    return isinstance(other, (BytesBlob, FileBlob)) and one.read() == other.read()
