"""Tensors as the protocol writes them."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ort_rknn.remote.tensors import DATATYPES, TensorError, datatype_of, datatype_of_array, decode, encode, ort_type_of


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (1, 0, 4)])
def test_there_and_back(datatype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 2, shape).astype(DATATYPES[datatype])
    back = decode("x", datatype, shape, encode(values, datatype))
    assert back.dtype == values.dtype
    assert back.shape == shape
    assert back.tobytes() == values.tobytes()
    assert datatype_of_array("x", values) == datatype
    assert datatype_of(str(ort_type_of(datatype))) == datatype


@given(st.lists(st.text()))
def test_strings_there_and_back(texts: list[str]) -> None:
    array = np.array([*texts, ""], object)[:-1]
    assert decode("x", "BYTES", array.shape, encode(array, "BYTES")).tolist() == texts


@given(st.binary(max_size=64), st.lists(st.integers(-2, 5), max_size=3), st.sampled_from([*DATATYPES, "BYTES", "FP8"]))
def test_any_bytes_are_a_tensor_or_refused(raw: bytes, shape: list[int], datatype: str) -> None:
    with contextlib.suppress(TensorError):
        assert list(decode("x", datatype, shape, raw).shape) == shape


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "why"),
    [
        ("FP32", [2], b"\0" * 7, "is 8 bytes, not 7"),
        ("FP32", [-1], b"", "negative dimension"),
        ("FP32", [2**40, 2**40], b"", "too large"),
        ("FP8", [1], b"\0", "no datatype 'FP8'"),
        ("BYTES", [2**30], b"", "need 4294967296 bytes or more"),
        ("BYTES", [1], b"\xff\xff\xff\xff", "string 0 is 4294967295 bytes and 0 are left"),
        ("BYTES", [1], b"\x01\0\0\0\xff", "not UTF-8"),
        ("BYTES", [1], b"\0\0\0\0x", "1 bytes are left over"),
    ],
)
def test_refused(datatype: str, shape: list[int], raw: bytes, why: str) -> None:
    with pytest.raises(TensorError, match=why):
        decode("x", datatype, shape, raw)


def test_types_without_a_name() -> None:
    assert datatype_of("seq(tensor(float))") is None
    assert datatype_of("tensor(bfloat16)") is None
    assert datatype_of("optional(tensor(float))") == "FP32"
    with pytest.raises(TensorError, match="complex64"):
        datatype_of_array("x", np.zeros(1, np.complex64))
