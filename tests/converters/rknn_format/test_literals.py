"""The parser of JSON and Python literals from files nobody vouches for."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ort_rknn_converters.rknn_format.literals import DEEPEST, parse_literal

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(plain)
def test_reads_what_repr_writes(value: object) -> None:
    assert parse_literal(repr(value)) == value


@given(plain)
def test_reads_what_json_writes(value: object) -> None:
    assert parse_literal(json.dumps(value)) == value
    assert parse_literal(json.dumps(value, ensure_ascii=False, indent=1)) == value


def test_reads_what_the_standard_parsers_do_not() -> None:
    low, high, missing = parse_literal("{'scale': [-inf, inf, nan]}")["scale"]
    assert (low, high) == (float("-inf"), float("inf"))
    assert missing != missing
    assert parse_literal("(1, (2.5,), ())") == [1, [2.5], []]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[1",
        "[1,,2]",
        "[1 2]",
        "{1}",
        "{1:}",
        "{[]: 1}",
        "'abc",
        r"'\x1'",
        "1 2",
        "__import__('os')",
        "--1",
        "[" * 100_000,
        "-" * 100_000,
        "(" * (DEEPEST + 2) + ")" * (DEEPEST + 2),
        "9" * 100_000,
        "'" + "a" * 2_000_000 + "'",
    ],
    ids=lambda text: text[:12],
)
def test_refuses_the_rest_at_once(text: str) -> None:
    began = time.thread_time()
    with pytest.raises(ValueError):
        parse_literal(text)
    assert time.thread_time() - began < 1
