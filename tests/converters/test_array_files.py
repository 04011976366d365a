"""numpy's files from strangers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ort_rknn_converters.array_files import read_array, read_arrays


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), np.float32), np.asfortranarray(np.arange(6).reshape(2, 3)), np.int8(3)]
)
def test_what_numpy_wrote(tmp_path: Path, array: np.ndarray) -> None:  # type: ignore[type-arg]
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", a=array)
    for found in (read_array(tmp_path / "a.npy"), read_arrays(tmp_path / "a.npz")["a"]):
        assert found.dtype == np.asarray(array).dtype
        assert np.array_equal(found, array)


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x01\x00\xff\xff",
        header("(1099511627776,)"),
        header("(-4,)"),
        header("(4,)") + b"1",
        header("(1,)", "'|O'") + b"12345678",
        header("(" * 9000),
        header("(1,)", "[" * 3000),
        header("(4,), 'x': 9**9**9") + b"1",
    ],
)
def test_heads_that_lie(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    for read, name in ((read_array, "a.npy"), (read_arrays, "a.npz")):
        with pytest.raises(ValueError):  # noqa: PT011 - which of its many
            read(tmp_path / name)  # type: ignore[operator]


def test_an_archive_that_says_it_is_small(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header("(2000000,)") + bytes(8_000_000))
    data = content.getvalue()
    changed = data.replace((8_000_000 + len(header("(2000000,)"))).to_bytes(4, "little"), (2**31).to_bytes(4, "little"))
    (tmp_path / "a.npz").write_bytes(changed)
    with pytest.raises(ValueError):  # noqa: PT011
        read_arrays(tmp_path / "a.npz")
