"""The strict reader: what is not of the form is refused with its place, whatever it is."""

from __future__ import annotations

import json
import os
from typing import Any, Literal

import pytest

from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.plain_data import (
    ANYTHING,
    COUNT,
    TEXT,
    Misshapen,
    by_name,
    check,
    check_fields,
    flat_rows,
    maybe,
    parse_json,
    parse_toml,
    record,
    rows,
    word,
)

FORM = record({"nodes": rows(record({"place": word("NPU", "CPU")}))}, {"size": maybe(COUNT)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"nodes": [{"place": "NPU"}, {"place": 7}]}', r"nodes\[1\].place: expected NPU or CPU, found 7"),
        ('{"nodes": 1}', "nodes: expected a list, found 1"),
        ("{}", "nodes is missing"),
        ('{"nodes": [], "size": true}', "size: expected a whole number from 0 up, found True"),
        ('{"nodes": [], "size": -1}', "size: expected a whole number from 0 up, found -1"),
        ('{"nodes": [], "other": 1}', "'other' is not known here"),
        ("[]", "expected an object"),
        ("{", "no JSON"),
        (b"\xff\xfe\xff", "no JSON"),
        ("[" * 100_000, "nested too deeply|no JSON"),
        ("1" * 10_000, "no JSON"),
        ('{"nodes": [], "size": 1' + "0" * 400 + "}", "a number of 401 digits"),
        ('{"nodes": "\\ud800"}', "no JSON"),
        (b'{"nodes": "\xed\xa0\x80"}', "no JSON"),
        ('{"nodes": []}'.encode("utf-16"), "no JSON"),
        ("[" + "[]," * 5_000_000 + "0]", "more than 4,194,304 values"),
    ],
)
def test_the_place_of_what_is_wrong(text: str | bytes, said: str) -> None:
    with pytest.raises(Misshapen, match=said):
        parse_json(text, FORM)


def test_texts_that_other_programs_write() -> None:
    assert parse_json("\ufeff{}".encode()) == {}
    assert parse_json(json.dumps(os.fsdecode(b"\xff.onnx"))) == "\udcff.onnx"
    assert parse_json(b'["\\ud83d\\ude00", 18446744073709551615, -9223372036854775808]') == [
        "\U0001f600",
        2**64 - 1,
        -(2**63),
    ]


def test_depth_and_size_have_limits() -> None:
    assert parse_json("[" * 60 + "]" * 60, ANYTHING)
    with pytest.raises(Misshapen, match="too deeply"):
        parse_json("[" * 80 + "]" * 80)
    with pytest.raises(Misshapen, match="at most 10 bytes"):
        parse_json('"0123456789"', most=10)


def test_long_lists_of_flat_records() -> None:
    form = flat_rows({"name": (str,), "size": (int, type(None))}, frozenset({"size"}))
    form([{"name": "a"}, {"name": "b", "size": None}])
    with pytest.raises(Misshapen, match=r"\[1\].size"):
        form([{"name": "a"}, {"name": "b", "size": "1"}])
    with pytest.raises(Misshapen, match=r"\[0\]: expected an object with name, size"):
        form([{"size": 1}])


def test_toml() -> None:
    assert parse_toml("a = 1") == {"a": 1}
    for text in (
        "a = [",
        "a = " + "[" * 5000,
        "a = " + "[" * 100 + "]" * 100,
        "a = 0x" + "f" * 5000,
        "a = [[1" + "0" * 99 + "]]",
    ):
        with pytest.raises(Misshapen):
            parse_toml(text)


@frozen
class _Inner:
    name: str
    place: Literal["NPU", "CPU"]


@frozen
class _Outer:
    inner: tuple[_Inner, ...]
    error: float | None = None


@pytest.mark.parametrize(
    "value",
    [_Outer(()), _Outer((_Inner("a", "NPU"),), 1), _Outer((_Inner("a", "CPU"),), 0.5)],
)
def test_fields_of_a_value(value: Any) -> None:
    check_fields(value)


@pytest.mark.parametrize(
    "value", [_Outer([]), _Outer((1,)), _Outer((), "x"), _Outer((_Inner(1, "NPU"),)), _Outer((_Inner("a", "x"),))]
)  # type: ignore[arg-type]
def test_fields_of_another_type(value: Any) -> None:
    with pytest.raises(Misshapen):
        check_fields(value)


def test_a_value_that_is_right_is_given_back() -> None:
    assert check({"a": "b"}, by_name(TEXT)) == {"a": "b"}
    with pytest.raises(Misshapen, match=r"there\['a'\]: expected a text, found 1"):
        check({"a": 1}, by_name(TEXT), "there")
