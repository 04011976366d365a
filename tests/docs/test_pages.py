"""Pages that programs write are up to date, whole, and in the site's navigation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ort_rknn
import ort_rknn_converters
from docs.check_site import problems
from docs.error_texts import every_text
from docs.error_topics import INTERNAL, TOPICS
from docs.list_errors import topic_of
from docs.site_docstrings import plain
from ort_rknn.options.table import OPTIONS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", ["list_errors", "list_tolerances"])
def test_a_page_is_up_to_date(page: str) -> None:
    done = subprocess.run([sys.executable, "-m", f"docs.{page}", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "make readme"


def test_every_text_has_a_cause_and_a_cure() -> None:
    texts = every_text()
    assert len(texts) > 400
    for one in texts:
        topic_of(one)  # raises where there is none
    for topic in TOPICS:
        assert any(topic_of(one) is topic for one in texts), f"{topic.title} is about nothing"
    assert {one.text for one in texts} >= {
        "schedule and tp_mode exclude each other: give one of them",
        "the option cpu_ops names …, which the model does not have",
        "no NPU can be used: this is a … machine, no Rockchip board",
    }
    modules = {one.module for one in texts}
    dead = [name for name in INTERNAL if not any(module.startswith(name) for module in modules)]
    assert dead == []


def test_the_errors_page_has_them_all() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    shown = [one for one in every_text() if topic_of(one) is not None]
    missing = [one.text for one in shown if one.text.replace("`", "'").replace("|", "\\|") not in page]
    assert missing == []


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if "includes" not in path.parts}
    assert there - named == set(), "the hook puts it under Guides; name it in mkdocs.yml to say where it belongs"
    assert named - there == {"docs/includes/words.md"}


def test_the_api_pages_have_every_public_name() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    named = {entry.rpartition(".")[2] for entry in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)}
    assert set(ort_rknn._OWN) - named == set()
    assert set(ort_rknn_converters.__all__) - named == {"TARGETS"}  # a table: the class and find_target are there


def test_the_options_page_has_values_and_flags() -> None:
    page = (DOCS / "options.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` (\|.*)$", page, re.MULTILINE))
    assert set(OPTIONS) <= set(rows)
    assert "one of auto, npu, lite, simulator, toolkit, cpu" in rows["device"]
    assert "rk3588, rk3576" in rows["target"]
    assert "convert `--algorithm`, `--quantized-algorithm`" in rows["quantized_algorithm"]
    assert "variable `ORT_RKNN_MIN_GAIN`" in rows["min_gain"]
    assert "object at" not in page


def test_roles_become_code() -> None:
    assert plain("see :class:`~ort_rknn.OrtValue` and :meth:`run`") == "see `OrtValue` and `run`"
    assert plain("``x`` stays") == "``x`` stays"


def test_a_site_with_faults_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="b.html">b</a><a href="#gone">x</a><a href="#here">y</a>'
        '<script src="https://elsewhere/x.js"></script><img src="none.png"><a href="https://ok">z</a>'
    )
    (tmp_path / "s.css").write_text("@import url(https://fonts/x);")
    assert list(problems(tmp_path)) == [
        "a.html loads https://elsewhere/x.js",
        "a.html loads none.png, which is not there",
        "a.html links to b.html, which is not there",
        "a.html links to #gone, which has no such anchor",
        "s.css loads something from elsewhere",
    ]
