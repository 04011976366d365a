"""Reads numpy's files of arrays from strangers: nothing is allocated before the file is known to hold it.

The head of an ``.npy`` file may say 2**40 elements, and a member of an ``.npz`` may be a bomb of zeros; numpy believes
both.
"""

from __future__ import annotations

import os
import zipfile
from math import prod
from typing import IO, Any

import numpy as np

from ort_rknn_converters.util.own_files import open_regular

__all__ = ["Array", "read_array", "read_arrays"]

Array = np.ndarray[Any, np.dtype[Any]]  # as NDArray, whose module is a long import

_RATIO = 1040  # of deflate: no compressed byte gives more than 1,032
_MOST_MEMBERS = 100_000  # of an archive; a guess


def read_array(path: str | os.PathLike[str]) -> Array:
    """The array in an ``.npy`` file.

    Raises:
        OSError: The file cannot be read, or is none.
        ValueError: It is no whole file of numpy's ``save``.
    """
    with open_regular(path) as file:
        return _array(file, os.fstat(file.fileno()).st_size)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays in an ``.npz`` file, by name.

    Raises:
        OSError: The file cannot be read, or is none.
        ValueError: It is no whole file of numpy's ``savez``.
    """
    arrays = {}
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if len(members) > _MOST_MEMBERS or sum(one.file_size for one in members) > size * _RATIO:
                    raise ValueError("it would be larger than its file can hold")
                for member in members:
                    with archive.open(member) as content:
                        arrays[member.filename.removesuffix(".npy")] = _array(content, member.file_size)
        except (OSError, ValueError):
            raise
        except Exception as error:  # zlib.error, BadZipFile, NotImplementedError, RuntimeError (a password) ...
            raise ValueError(f"it is no whole archive ({error})") from error
    return arrays


def _array(file: IO[bytes], size: int) -> Array:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (OSError, ValueError):
        raise
    except Exception as error:  # what Python's parser of literals raises: SyntaxError, RecursionError, MemoryError
        raise ValueError(f"its head is damaged ({type(error).__name__})") from error
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"it holds {dtype}, and no numbers")
    needed = prod(shape) * dtype.itemsize
    if len(shape) > 32 or any(dim < 0 for dim in shape) or needed > size:
        raise ValueError(f"it says that it holds {needed:,} bytes, and has {size:,}")
    data = bytearray(needed)
    view, at = memoryview(data), 0
    while at < needed:
        got = file.readinto(view[at:])  # type: ignore[attr-defined]
        if not got:
            raise ValueError(f"it ends after {at:,} of {needed:,} bytes")
        at += got
    flat = np.frombuffer(data, dtype)
    return flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)
