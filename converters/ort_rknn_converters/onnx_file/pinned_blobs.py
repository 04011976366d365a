"""Files that stay readable after they were removed or replaced: what a running session may have to open once more.

A cache is cleared, a model is updated in its place while programs run. The content a program has begun with is the one
it must go on with, so a descriptor is held open: the kernel keeps an unlinked file until the last one is closed.
"""

from __future__ import annotations

import os
import resource
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ort_rknn_converters.onnx_file.blobs import Blob, BytesBlob, FileBlob, StoredBlob
from ort_rknn_converters.onnx_file.proofs import digest_of_open
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import logger
from ort_rknn_converters.util.own_files import blocks_of_open, open_own, open_regular

__all__ = ["PinnedBlob", "pinned"]

File = TypeVar("File", bound=FileBlob)


@frozen
class PinnedBlob(StoredBlob):
    """A whole file whose content stays as it was when this was made.

    Attributes:
        fd: Descriptor of the content.
        stored: Whether it is in the cache, where what is computed from it is kept beside it.
    """

    fd: int = -1
    stored: bool = False

    @property
    def path(self) -> str | None:  # type: ignore[override]
        """The file while it is there and the same, else a path by which only this process reaches the content.

        Raises:
            CompiledModelError: It is in the cache, and not what its digest says.
        """
        if self.stored:
            self.vouch()
        return self._place()

    def _place(self) -> str | None:
        held = os.fstat(self.fd)
        try:
            found = Path(self.file).stat()
            if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino):
                return self.file
        except OSError:
            pass
        behind = f"/proc/self/fd/{self.fd}"
        return behind if Path(behind).exists() else None

    def _found(self) -> str:
        return digest_of_open(self.fd, self.file)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return os.fstat(self.fd).st_size

    def _blocks(self) -> Iterator[bytes]:
        return blocks_of_open(self.fd)

    def read(self) -> bytes:
        """The bytes.

        Raises:
            CompiledModelError: They cannot be read, or are not what was stored.
        """
        return b"".join(self.chunks())

    def derived(self, name: str, make: Callable[[], bytes]) -> BytesBlob | FileBlob:
        """Result of ``make``; kept beside a file of the cache while that is there."""
        if not self.stored or self._place() != self.file:
            return BytesBlob(make())
        return super().derived(name, make)

    __eq__, __hash__ = Blob.__eq__, Blob.__hash__


def pinned(blob: File) -> File:
    """Pins a file's content for as long as the result lives.

    The file itself comes back where that would take more than half of the descriptors this process may have: a
    program's own files and sockets are worth more than a cache that may be cleared.

    Raises:
        OSError: The file cannot be opened.
    """
    with (open_own if isinstance(blob, StoredBlob) else open_regular)(blob.file) as stream:
        fd = os.dup(stream.fileno())
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and fd > most // 2:
        os.close(fd)
        logger().info("%s is not held open: this process has %d descriptors of %d", Path(blob.file), fd, most)
        return blob
    made = PinnedBlob(blob.file, blob.sha256, fd, isinstance(blob, StoredBlob))
    weakref.finalize(made, os.close, fd).atexit = False
    return made  # type: ignore[return-value]
