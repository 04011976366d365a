"""The name of a cache entry: a digest of everything that can change what a conversion makes."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import threading
from pathlib import Path

from ort_rknn_converters.onnx_file.protobuf_wire import opened
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.installed_profile import profile_digest
from ort_rknn_converters.util.own_files import is_file, open_regular
from ort_rknn_converters.util.package_versions import version_of
from ort_rknn_converters.version import CONVERTER

__all__ = ["content_digest", "key_of"]

_LOCATION = b"\x0a\x08location\x12"
"""How protobuf writes the key ``location`` of an external tensor, and the tag of the value that follows."""

_PART = 1 << 24  # bytes of a model that one core hashes at a time
_BLOCK = 1 << 20  # bytes read at a time

_PACKAGES = ("ort-rknn", "onnx", "onnxruntime", "onnx-ir")
"""Whose versions count. An onnxruntime of another name (``onnxruntime-gpu`` ...) counts as none."""


def key_of(model: str | os.PathLike[str] | bytes, options: ConvertOptions, content: str | None = None) -> str:
    """The key of a model, converted with these options, by this version of everything but the toolkit.

    The toolkit's version is written in the entry instead: without a toolkit an entry of any version is good.

    Args:
        model: Path or bytes. Files with external data are part of the digest.
        options: How it is converted.
        content: The model's :func:`content_digest`, when it is known already.

    Raises:
        FileNotFoundError: No such file.
        CalibrationError: The calibration data cannot be read.
    """
    digest = hashlib.sha256()
    # A profile of this board changes what the cost rule decides.
    profile = profile_digest(options.target) if options.min_gain else ""
    for part in (_options_key(options), str(CONVERTER), profile, *(f"{name} {version_of(name)}" for name in _PACKAGES)):
        digest.update(part.encode() + b"\0")
    digest.update((content or content_digest(model)).encode())
    return digest.hexdigest()


def _options_key(options: ConvertOptions) -> str:
    """The options' own key; calibration data count by their content."""
    if options.calibration is None:
        return options.key()
    from ort_rknn_converters.quantize.calibration import Calibration  # not at every start of a session

    data = Calibration.of(options)
    return options.key(None if data is None else data.digest())


def content_digest(model: str | os.PathLike[str] | bytes) -> str:
    """Digest of a model and of its files with external data; reads all of them, a block at a time.

    Raises:
        FileNotFoundError: No such file.
    """
    digest = hashlib.sha256()
    with opened(model) as data:
        _add(digest, data, Path() if isinstance(data, bytes) else Path(os.fspath(model)).parent)  # type: ignore[arg-type]
    return digest.hexdigest()


def _add(digest: hashlib._Hash, data: bytes | mmap.mmap, folder: Path) -> None:
    if len(data) < 2 * _PART:
        digest.update(data)
    else:
        digest.update(b"parts\0" + b"".join(_parts(data)))
    for name in sorted(_external_files(data)):
        file = folder / name
        # A name that is no file is a pattern met by chance inside weights, or a fault the conversion will tell.
        if is_file(file):
            digest.update(b"\0external\0" + name.encode() + b"\0")
            with open_regular(file) as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)


def _parts(data: bytes | mmap.mmap) -> list[bytes]:
    """Digests of a large model's parts, computed on several cores: a start from the cache waits for them."""
    found = [b""] * -(-len(data) // _PART)
    numbers = iter(range(len(found)))

    def work() -> None:
        with memoryview(data) as view:
            for number in numbers:
                with view[number * _PART : (number + 1) * _PART] as part:
                    found[number] = hashlib.sha256(part).digest()

    helpers = [threading.Thread(target=work, daemon=True) for _ in range(min(os.cpu_count() or 1, 4) - 1)]
    try:
        for helper in helpers:
            helper.start()
    except RuntimeError:  # no thread to be had
        helpers = [helper for helper in helpers if helper.ident is not None]
    work()
    for helper in helpers:
        helper.join()  # no limit: each is within its last part, of 16 MB
    return found


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
