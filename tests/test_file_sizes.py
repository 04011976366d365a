"""Files stay small enough to be read in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 400
FOLDERS = ("ort_rknn", "converters", "conformance", "examples", "benchmarks", "tests", "docs")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LIMIT, f"{lines} lines: split it"


@pytest.mark.parametrize(
    "path", [path for path in FILES if ROOT / "tests" not in path.parents], ids=lambda path: str(path.relative_to(ROOT))
)
def test_file_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").lstrip().startswith(('"""', 'r"""')), "a module docstring comes first"
