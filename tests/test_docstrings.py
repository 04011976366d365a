"""First sentences stand alone: no docstring begins with a word that needs another sentence to be understood."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("converters/ort_rknn_converters", "ort_rknn", "conformance/ort_rknn_conformance")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
BANNED = re.compile(
    r"(What|Whose|Who|Which|Where|When|Why|How|Those|These|This|The same|Same|Such|Told|See|It|They|Its|Their|As|Of"
    r"|No longer|If any)\b(?!-)"
)
"""Openings without a subject of their own. A verb in the third person, or a noun phrase, takes their place."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_first_sentences_stand_alone(path: Path) -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
    said = {getattr(node, "name", "the module"): ast.get_docstring(node) or "" for node in nodes}
    assert {name: text.partition("\n")[0] for name, text in said.items() if BANNED.match(text)} == {}


def test_no_private_name_for_ez_rknn_async() -> None:
    found = [
        path.relative_to(ROOT)
        for folder in ("ort_rknn", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md"} and re.search(r"\bthe seed('s)?\b(?! of)", path.read_text(encoding="utf-8"))
    ]
    assert found == []
