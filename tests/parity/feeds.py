"""Cases: what may be fed, and what is said of what may not."""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tests.helpers.ort_models import model
from tests.helpers.parity import Bench, cases

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
B = np.arange(6, dtype=np.float32).reshape(3, 2)
X = np.array([1, 2], np.int64)


class OwnMapping(Mapping[str, Any]):
    def __init__(self, values: dict[str, Any]) -> None:
        self.values_ = values

    def __getitem__(self, key: str) -> Any:
        return self.values_[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


class Arrayish:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return A


def _unaligned() -> np.ndarray[Any, Any]:
    return np.frombuffer(b"\0" + A.tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 2)


def _read_only() -> np.ndarray[Any, Any]:
    array = A.copy()
    array.flags.writeable = False
    return array


# What is fed for A of the model "two", beside a good B.
VALUES: dict[str, Any] = {
    "array": A,
    "list": A.tolist(),
    "list_of_ints": [[1, 2], [3, -4], [5, 6]],
    "list_of_strings": [["1", "2"], ["3", "-4"], ["5", "6"]],
    "list_of_arrays": list(A),
    "ragged_list": [[1, 2], [3]],
    "unparsable_list": [["a", "b"]] * 3,
    "empty_list": [],
    "tuple": tuple(map(tuple, A.tolist())),
    "fortran": np.asfortranarray(A),
    "transposed": np.ascontiguousarray(A.T).T,
    "negative_strides": A[::-1],
    "strided": np.repeat(A, 2, axis=1)[:, ::2],
    "broadcast": np.broadcast_to(A[0], (3, 2)),
    "read_only": _read_only(),
    "unaligned": _unaligned(),
    "matrix": A.view(np.matrix) if hasattr(np, "matrix") else A,
    "masked": np.ma.masked_array(A, mask=A > 3),
    "subclass": A.view(type("Sub", (np.ndarray,), {})),
    "float64": A.astype(np.float64),
    "float16": A.astype(np.float16),
    "int32": A.astype(np.int32),
    "int64": A.astype(np.int64),
    "bool": A > 0,
    "complex": A.astype(np.complex64),
    "datetime": A.astype(np.int64).astype("datetime64[s]"),
    "structured": np.zeros((3, 2), dtype=[("a", "f4")]),
    "rank_1": A.ravel(),
    "rank_3": A[None],
    "rank_0": np.array(1, np.float32),
    "wrong_first_dim": A[:2],
    "wrong_both_dims": np.zeros((4, 5), np.float32),
    "empty": np.zeros((0, 2), np.float32),
    "float": 1.0,
    "int": 1,
    "python_bool": True,
    "numpy_scalar": np.float32(1),
    "string": "1",
    "bytes": b"1",
    "memoryview": memoryview(A),
    "array_protocol": Arrayish(),
    "dict": {"a": 1.0},
    "set": {1.0},
    "object_array": A.astype(object),
    "string_array": A.astype(str),
    "range": range(6),
    "function": len,
    "none": None,
}


def _value(value: Any) -> Any:
    def run(t: Bench) -> Any:
        return t.open(model("two")).run(None, {"A": value, "B": B})

    return run


cases("value", {name: _value(value) for name, value in VALUES.items()})

# The feed as a whole.
FEEDS: dict[str, Any] = {
    "dict": {"A": A, "B": B},
    "ordered_dict": OrderedDict(B=B, A=A),
    "mapping_proxy": MappingProxyType({"A": A, "B": B}),
    "chain_map": ChainMap({"A": A}, {"B": B}),
    "own_mapping": OwnMapping({"A": A, "B": B}),
    "none": None,
    "list": [A, B],
    "tuple": (A, B),
    "array": A,
    "empty": {},
    "missing": {"A": A},
    "missing_and_extra": {"A": A, "Q": B},
    "extra": {"A": A, "B": B, "Q": A},
    "two_extra": {"A": A, "B": B, "Q": A, "R": A},
    "output_name_as_input": {"A": A, "B": B, "Y": A},
    "int_key": {"A": A, "B": B, 1: A},
    "case_differs": {"a": A, "b": B},
    "extra_before_dtype": {"A": A.astype(np.float64), "B": B, "Q": A},
    "dtype_before_rank": {"A": A.astype(np.float64).ravel(), "B": B},
    "conversion_before_extra": {"A": 1.0, "B": B, "Q": A},
    "missing_before_conversion": {"A": 1.0},
    "same_array_twice": {"A": A, "B": A},
}


def _feed(feed: Any) -> Any:
    def run(t: Bench) -> Any:
        return t.open(model("two")).run(None, feed)

    return run


cases("feed", {name: _feed(feed) for name, feed in FEEDS.items()})


def _two(names: Any) -> Any:
    def run(t: Bench) -> Any:
        return t.open(model("two")).run(names() if callable(names) else names, {"A": A, "B": B})

    return run


NAMES: dict[str, Any] = {
    "none": None,
    "empty_list": [],
    "empty_tuple": (),
    "empty_string": "",
    "one": ["Y"],
    "other": ["K"],
    "reversed": ["K", "Y"],
    "double": ["Y", "K", "Y"],
    "tuple": ("Y", "K"),
    "set": {"K"},
    "generator": lambda: (name for name in ("K", "Y")),
    "dict_keys": {"K": 1}.keys(),
    "numpy_strings": [np.str_("K")],
    "one_element_array": np.array(["K"]),
    "string": "Y",
    "unknown": ["Z"],
    "unknown_among_known": ["Y", "Z"],
    "input_name": ["A"],
    "none_inside": [None],
    "int_inside": [0],
    "int": 3,
    "list_iterator": lambda: iter(["K"]),
}
cases("names", {name: _two(names) for name, names in NAMES.items()})


def _names_and_feed(names: Any, feed: Any) -> Any:
    def run(t: Bench) -> Any:
        return t.open(model("two")).run(names, feed)

    return run


cases(
    "order",
    {
        "bad_dtype_and_bad_name": _names_and_feed(["Z"], {"A": A.astype(np.float64), "B": B}),
        "bad_dims_and_bad_name": _names_and_feed(["Z"], {"A": A[:2], "B": B}),
        "extra_and_bad_name": _names_and_feed(["Z"], {"A": A, "B": B, "Q": B}),
        "missing_and_bad_name": _names_and_feed(["Z"], {"A": A}),
    },
)

# One-input models of every type: good and bad values.
TYPED: dict[str, tuple[str, Any]] = {
    "int64": ("int64", X),
    "int64_from_list": ("int64", [1, 2]),
    "int64_from_floats": ("int64", [1.9, -2.9]),
    "int64_from_int32": ("int64", X.astype(np.int32)),
    "int64_from_uint64": ("int64", X.astype(np.uint64)),
    "int32": ("int32", X.astype(np.int32)),
    "int8": ("int8", X.astype(np.int8)),
    "uint8": ("uint8", X.astype(np.uint8)),
    "uint8_from_list": ("uint8", [1, 255]),
    "bool": ("bool", np.array([True, False])),
    "bool_from_list": ("bool", [True, False]),
    "bool_from_uint8": ("bool", np.array([1, 0], np.uint8)),
    "double": ("double", np.array([0.1, 1e300])),
    "double_from_list": ("double", [0.1, 2]),
    "half": ("half", np.array([0.5, -2], np.float16)),
    "half_from_list": ("half", [0.5, -2]),
    "half_from_float32": ("half", np.array([0.5, -2], np.float32)),
    "string_objects": ("string", np.array(["a", "bc"], dtype=object)),
    "string_unicode": ("string", np.array(["a", "bcé"])),
    "string_list": ("string", ["a", "b"]),
    "string_numbers": ("string", np.array([1, 2.5], dtype=object)),
    "string_wrong_length": ("string", np.array(["a"])),
    "string_from_floats": ("string", np.array([1.0, 2.0], np.float32)),
    "sequence": ("sequence", [np.float32([1]), np.float32([2, 3])]),
    "sequence_empty": ("sequence", []),
    "sequence_tuple": ("sequence", (np.float32([1]),)),
    "sequence_array": ("sequence", np.float32([1])),
    "sequence_wrong_dtype": ("sequence", [np.float64([1])]),
    "optional_value": ("optional", np.float32([1])),
    "optional_none": ("optional", None),
    "zipmap": ("zipmap", np.float32([[0.25, 0.75], [1, 0]])),
    "dynamic_3": ("dynamic", A),
    "dynamic_1": ("dynamic", A[:1]),
    "dynamic_0": ("dynamic", A[:0]),
    "dynamic_wrong_fixed_dim": ("dynamic", np.zeros((3, 3), np.float32)),
    "dynamic_rank": ("dynamic", A.ravel()),
    "mixed": ("mixed", np.arange(-16, 16, dtype=np.float32).reshape(1, 2, 4, 4)),
    "mixed_list": ("mixed", np.ones((1, 2, 4, 4)).tolist()),
    "mixed_wrong": ("mixed", np.ones((1, 2, 4, 5), np.float32)),
}


def _typed(name: str, value: Any) -> Any:
    def run(t: Bench) -> Any:
        session = t.open(model(name))
        return session.run(None, {session.get_inputs()[0].name: value})

    return run


cases("typed", {key: _typed(*row) for key, row in TYPED.items()})


def _optional_absent(t: Bench) -> Any:
    return t.open(model("optional")).run(None, {})


def _override(feed: dict[str, Any]) -> Any:
    def run(t: Bench) -> Any:
        return t.open(model("override")).run(None, {"X": A, **feed})

    return run


W = np.eye(2, dtype=np.float32)
S = np.float32(3)
cases("optional", {"absent": _optional_absent})
cases(
    "override",
    {
        "default": _override({}),
        "fed": _override({"W": W}),
        "fed_list": _override({"W": W.tolist()}),
        "wrong_dtype": _override({"W": W.astype(np.float64)}),
        "wrong_dims": _override({"W": np.eye(3, dtype=np.float32)}),
        "unknown": _override({"V": W}),
    },
)


def _scalar(value: Any) -> Any:
    def run(t: Bench) -> Any:
        return t.open(model("scalar")).run(None, {"X": A, "s": value})

    return run


cases(
    "scalar",
    {
        "zero_d": _scalar(np.array(3, np.float32)),
        "numpy_scalar": _scalar(S),
        "float": _scalar(3.0),
        "one_element": _scalar(np.array([3], np.float32)),
        "two_elements": _scalar(np.array([3, 4], np.float32)),
        "wrong_dtype": _scalar(np.array(3, np.int64)),
        "list": _scalar([3.0]),
    },
)
