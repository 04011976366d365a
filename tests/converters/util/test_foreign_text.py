"""Text of strangers: whatever a model calls its nodes, nothing of it controls anything."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.partition.plan import NodePlacement, Plan, render_plan
from ort_rknn_converters.partition.whole_model import OutputError, WholeModel
from ort_rknn_converters.util.foreign_text import code, html, in_markup, markdown, shown, shown_lines
from ort_rknn_converters.util.log import logger

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07",
    "a\nERROR forged",
    "a\roverwritten",
    "\u202eevil\u2066",
    "\x9b31m",
    "\ud800",
    "a\u2028b",
    "zero\u200bwidth\ufeff",
    "\U000e0041tag",
    "x" * 5000,
    "blank\ufe0f\u034f\u17b4\U0001d173\U00013430",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_one_line_that_controls_nothing(text: str) -> None:
    found = shown(text)
    assert found.isprintable()
    assert len(found) <= 400
    found.encode()


def test_accents_do_not_pile_up() -> None:
    assert shown("o\u0308\u0323\u0301") == "o\u0308\u0323\u0301"
    assert shown("z" + "\u0300\u036f" * 50).count("\u0300") == 2


def test_ordinary_names_stay() -> None:
    for name in ("/model.0/conv/Conv_output_0", "größe", "図形", "a b", "e\u0301te\u0301"):
        assert shown(name) == name
        assert shown_lines(f"{name}\n\tnext") == f"{name}\n\tnext"


@pytest.mark.parametrize(
    "text", ["![x](http://a/b.png)", "[a](javascript:b)", "<img src=x>", "`a`|b", "*b*", "# h", "www.a.b", "@user"]
)
def test_markdown_is_no_markup(text: str) -> None:
    found = markdown(text)
    for markup in ("![", "](", "<", "http:", "www."):
        assert markup not in found
    assert "\n" not in found
    assert "`" not in found.replace("\\`", "")
    assert "|" not in found.replace("\\|", "")


def test_names_as_code() -> None:
    assert code("a/b_0") == "`a/b_0`"
    assert not code("a`b").startswith("`")


def test_html() -> None:
    assert html("<script>\"'&") == "&lt;script&gt;&quot;&#x27;&amp;"


def test_rich() -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=False, width=80).print(in_markup("[red]a[/] \x1b[1m"))
    assert out.getvalue() == "[red]a[/] \\x1b[1m\n"


def test_errors_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    assert str(ModelError("node \x1b[2J is bad")) == "node \\x1b[2J is bad"
    with caplog.at_level(logging.INFO, "ort_rknn"):
        logger().warning("%s is bad", "a\nWARNING all is well\x1b[1A")
    assert caplog.messages == ["a\n    WARNING all is well\\x1b[1A is bad"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_plans_table(name: str) -> None:
    whole = WholeModel((OutputError(name, None, None, name),), others=(name,))
    plan = Plan("rk3588", "fp16", (NodePlacement(name, name, "CPU", name),), notes=(name,), whole=whole)
    for line in render_plan(plan, nodes=True).splitlines():
        assert line.isprintable(), line
