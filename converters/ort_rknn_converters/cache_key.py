"""The name of a cache entry: a digest of everything that can change what a conversion makes."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ort_rknn_converters.options import ConvertOptions

__all__ = ["CONVERTER", "key_of"]

CONVERTER = 1
"""Version of the conversion itself. Raise it with every change that makes other compiled models of the same input."""

_LOCATION = b"\x0a\x08location\x12"
"""How protobuf writes the key ``location`` of an external tensor, and the tag of the value that follows."""

_BLOCK = 1 << 20


def key_of(model: str | os.PathLike[str] | bytes, options: ConvertOptions) -> str:
    """The key of a model, converted with these options, by this version of everything but the toolkit.

    The toolkit's version is written in the entry instead: without a toolkit an entry of any version is good.

    Args:
        model: Path or bytes. Files with external data are part of the digest.
        options: How it is converted.

    Raises:
        FileNotFoundError: No such file.
    """
    digest = hashlib.sha256()
    for part in (options.key(), str(CONVERTER), *(f"{name} {_version(name)}" for name in _PACKAGES)):
        digest.update(part.encode() + b"\0")
    if isinstance(model, (bytes, bytearray, memoryview)):
        _add(digest, bytes(model), Path())
    else:
        path = Path(model)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    _add(digest, data, path.parent)
    return digest.hexdigest()


_PACKAGES = ("ort-rknn", "onnx", "onnxruntime", "onnx-ir")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # onnxruntime comes under several names (onnxruntime-gpu ...)
        return ""


def _add(digest: hashlib._Hash, data: bytes | mmap.mmap, folder: Path) -> None:
    digest.update(data)
    for name in sorted(_external_files(data)):
        file = folder / name
        # A name that is no file is a pattern met by chance inside weights, or a fault the conversion will tell.
        if file.is_file():
            digest.update(b"\0external\0" + name.encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)


def _external_files(data: bytes | mmap.mmap) -> set[str]:
    """Names of the files that hold tensors, found without parsing the model."""
    names = set()
    at = data.find(_LOCATION)
    while at >= 0:
        start = at + len(_LOCATION)
        length = shift = 0
        while start < len(data):
            byte = data[start]
            start += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 or shift > 21:
                break
        with contextlib.suppress(UnicodeDecodeError):
            names.add(data[start : start + length].decode())
        at = data.find(_LOCATION, start)
    return {name for name in names if name and "\0" not in name and len(name) < 4096}
