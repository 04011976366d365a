"""Where a long run is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ort_rknn_conformance import progress
from ort_rknn_conformance.progress import Progress


def _console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=100, highlight=False), text


def test_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    console, text = _console(terminal=False)
    with Progress(6, done=2, console=console) as drawn:
        drawn.step("node/a", bad=False)
        drawn.step("node/[b]", bad=True)
    assert text.getvalue().splitlines() == [
        "3 of 6 cases, 0 bad, about 0 s left",
        "4 of 6 cases, 1 bad, about 0 s left",
    ]


def test_a_log_is_not_flooded() -> None:
    console, text = _console(terminal=False)
    with Progress(console=console) as drawn:
        for _ in range(100):
            drawn.step("node/a", bad=False)
    assert text.getvalue() == ""


def test_a_terminal_gets_one_changing_line() -> None:
    console, text = _console(terminal=True)
    with Progress(10, done=3, bad=2, console=console) as drawn:
        drawn.step("node/[b]", bad=False)
    assert "4 of 10 cases, 2 bad, about 0 s left, last: node/[b]" in text.getvalue()
