"""The architecture page names what is there: every folder, every file it sends a reader to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("converters/ort_rknn_converters", "ort_rknn", "conformance/ort_rknn_conformance")


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_has_its_line(room: str) -> None:
    (table,) = re.findall(rf"^\| `{room}/` \|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    named = set(re.findall(r"`([\w/]+)/`", re.sub(r"^(\|[^|]*\|).*$", r"\1", table, flags=re.MULTILINE)))
    named |= {f"passes/{name}" for name in named & {"simplify", "expand", "rewrite"}}
    folders = {str(path.parent.relative_to(ROOT / room)) for path in (ROOT / room).rglob("*.py")} - {"."}
    folders = {name for name in folders if not name.startswith("native/")}  # a distribution of its own
    assert {name for name in folders if name not in named} == set()
    assert {name for name in named if not (ROOT / room / name).is_dir() and f"passes/{name}" not in folders} == set()


def test_every_place_exists() -> None:
    (section,) = re.findall(r"## Where does X go\n(.*?)\n## ", PAGE, re.DOTALL)
    places = [
        place.replace("converters/...", ROOMS[0]).replace("conformance/...", ROOMS[2])
        for place in re.findall(r"`([\w./]+/[\w./]+)`", section)
    ]
    assert len(places) >= 15
    assert [place for place in places if not (ROOT / place).exists()] == []
