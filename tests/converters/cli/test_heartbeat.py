"""A long command says in a log what it is at."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from ort_rknn_converters.cli.heartbeat import Heartbeat, shown_lines


def test_it_says_what_was_said_last() -> None:
    said, twice = list[str](), threading.Event()

    def write(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            twice.set()

    with Heartbeat(write, every=0.01) as heartbeat:
        heartbeat.say("installing")
        assert twice.wait(10)
    count = len(said)
    assert said[-1].endswith("s  installing")
    heartbeat.stop()
    assert len(said) == count


def test_a_quick_step_says_nothing_in_a_log() -> None:
    text = io.StringIO()
    with shown_lines(Console(file=text, force_terminal=False), "beginning") as show:
        show("going on")
    assert text.getvalue() == ""


def test_a_terminal_is_drawn_on() -> None:
    text = io.StringIO()
    with shown_lines(Console(file=text, force_terminal=True, width=60), "beginning") as show:
        show("[red]as it is[/red]")
    assert "[red]as it is[/red]" in text.getvalue()
