"""Every row of docs/other-systems.md names a test that exists, or says why there is none; and no row is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "other-systems.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-Z]+-\w+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)


def numbers(prefix: str, *spans: tuple[int, int]) -> list[str]:
    return [f"{prefix}{number:02}" for first, last in spans for number in range(first, last + 1)]


EXPECTED = [
    *numbers("EZ-", (1, 26), (30, 46), (50, 66)),
    *[f"EZ-W{number}" for number in range(1, 10)],
    *numbers("VA-", (1, 25)),
    *numbers("OV-", (1, 20)),
    *numbers("ORT-", (1, 14)),
]


def test_every_row_is_there() -> None:
    assert [row for row, _, _ in ROWS] == EXPECTED


@pytest.mark.parametrize(("row", "shown"), [(row, shown) for row, _, shown in ROWS])
def test_what_shows_it_exists(row: str, shown: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", shown)
    assert named or len(shown) > 40, "a test, or a reason"
    for file, function in named:
        text = (TESTS / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {function}\(", text, re.MULTILINE), f"{file} has no {function}"
