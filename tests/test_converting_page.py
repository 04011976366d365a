"""docs/converting.md says what the command has: its options, the planner's reasons, the SoCs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ort_rknn_conformance.cli import check
from ort_rknn_converters.cli.convert import command
from ort_rknn_converters.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "converting.md").read_text(encoding="utf-8")
OPTIONS = {option for which in (command, check) for parameter in which.params for option in parameter.opts}


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--[a-z][a-z0-9-]+", PAGE))))
def test_every_option_is_there(option: str) -> None:
    assert option in OPTIONS


def test_every_reason_is_one_of_the_planners() -> None:
    table = PAGE.split("| reason | meaning |")[1].split("\n\n")[0]
    reasons = [
        text for row in table.splitlines() for text in re.findall(r"`([^`-]+)`", row.split("|")[1] if row else "")
    ]
    sources = (ROOT / "converters" / "ort_rknn_converters").rglob("*.py")
    code = re.sub(r"\"\s+f?\"", "", " ".join(file.read_text(encoding="utf-8") for file in sources))
    missing = [
        reason
        for reason in reasons
        for part in re.split(r"X: |\.\.\., ", reason)
        if part.removesuffix("65504").strip() not in code
    ]
    assert len(reasons) > 10
    assert not missing


def test_every_soc_is_named() -> None:
    assert set(re.findall(r"`(r[kv]\d+b?)`", PAGE)) == set(TARGETS)
