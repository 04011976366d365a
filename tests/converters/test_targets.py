"""The table of SoCs: the one place where a SoC's name and facts stand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ort_rknn_converters.errors import UnknownTarget
from ort_rknn_converters.targets import TARGETS, find_target

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "converters" / "ort_rknn_converters" / "targets.py"
MODULES = sorted(
    path
    for room in ("converters/ort_rknn_converters", "ort_rknn", "conformance/ort_rknn_conformance")
    for path in (ROOT / room).rglob("*.py")
    if path != TABLE
)
NAME = re.compile(r"r[kv]\d{4}b?")


def test_no_other_module_names_a_soc() -> None:
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value)
    ]
    assert len(MODULES) > 300
    assert not named, f"facts of a SoC are fields of its Target in {TABLE.name}: {', '.join(named)}"


def test_found_by_alias_and_in_any_case() -> None:
    assert find_target(" RK3588S ").name == "rk3588"
    with pytest.raises(UnknownTarget, match=r"rk9999.*Known targets: rk3588, rk3576"):
        find_target("rk9999")


def test_facts_of_some() -> None:
    facts = {name: (soc.cores, soc.max_rank, soc.runtime_cpu_ops, soc.core_masks) for name, soc in TARGETS.items()}
    assert facts["rk3588"] == (3, None, "all", (1, 2, 4, 3, 7))
    assert facts["rk3566"] == facts["rk3568"] == (1, 5, "all", ())
    assert facts["rv1103"] == facts["rv1106b"] == (1, None, "few", ())
    assert facts["rk2118"] == (1, None, "none", ())
    assert [name for name, soc in TARGETS.items() if soc.small_npu] == [
        "rv1103",
        "rv1103b",
        "rv1106",
        "rv1106b",
        "rk2118",
    ]
    assert [name for name, soc in TARGETS.items() if soc.softmax_on_cpu] == ["rk3566", "rk3568"]
