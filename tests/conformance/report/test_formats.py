"""JUnit, Markdown and the page as text: whole, and not broken by what a model may be called."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ort_rknn_conformance.case import CaseError
from ort_rknn_conformance.report import json_report, junit, markdown, page
from ort_rknn_conformance.report.baseline import Change, Difference
from ort_rknn_conformance.report.formats import ReportFiles
from ort_rknn_conformance.report.picture import LARGE, draw, draw_parts
from ort_rknn_conformance.result import GraphNode
from tests.helpers.reports import HOSTILE, document, many_results, model_result

CHANGED = Difference("then.json", (Change("a", "wrong → right"),), (Change("b", HOSTILE),), (), ("n",), ("g",))


def test_junit() -> None:
    root = ElementTree.fromstring(junit.render(document(*many_results())))
    (suite,) = root
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "10",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
    }
    crash = suite.find("testcase[@name='crash']")
    assert crash is not None
    assert crash.get("classname") == "simulator.simple"
    error = crash.find("error")
    assert error is not None
    assert error.get("message") == "SIGSEGV"
    assert suite.find("properties/property[@name='onnxruntime']") is not None


def test_markdown_of_many() -> None:
    text = markdown.render(document(*many_results(), difference=CHANGED))
    assert text.startswith("# A run: 3 bad")
    assert "| crashed | 1 | the process died |" in text
    assert "| `simple/crash` | crashed | SIGSEGV |" in text
    assert "## Against then.json: 1 better, 1 worse, 1 new, 1 gone" in text
    assert "<b>" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) in (3, 4), row


def test_markdown_of_one() -> None:
    text = markdown.render(document(model_result()))
    for said in ("2 of 3 nodes", "SQNR", "| top1 | 100.00% | 75.00% |", "--cpu-node a", "| 1 | recurrent |"):
        assert said in text


def test_page_is_one_file() -> None:
    text = page.render(document(*many_results(), model_result(), difference=CHANGED, title=HOSTILE))
    assert not re.search(r"""(src|href)=["']|@import|https?://|url\(""", text)
    assert text.count("</script>") == 2
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    content = json.loads(data, parse_constant=pytest.fail)
    assert content["title"] == HOSTILE.replace("\0", "\\x00")
    assert len(content["cases"]) == 11
    (relu,) = [row for row in content["ops"] if row["op"] == "Relu"]
    assert (relu["right"], relu["bad"]) == (6, 0)
    (model,) = [row for row in content["cases"] if row["case"] == "m.onnx"]
    assert model["picture"].startswith("<svg")
    assert "overview" not in model, "three nodes need none"
    assert "recurrent &lt;x&gt;" in model["picture"]


def test_pictures() -> None:
    assert draw(()) == ""
    small = draw(model_result().graph)
    assert small.count("<rect") == 3
    assert small.count('class="edge crossing"') == 2
    nodes = [
        GraphNode(
            f"n{n}", "Relu", *(("CPU", "why", None) if n % 200 == 7 else ("NPU", "", f"npu_{n // 200}")), (n - 1,)
        )
        for n in range(1, LARGE + 100)
    ]
    nodes = [replace(node, after=(n - 1,) if n else ()) for n, node in enumerate(nodes)]
    assert draw(nodes) == "", "more than anyone can read"
    large = draw_parts(nodes, {"n3"})
    assert large.count('class="node npu bad"') == 1
    assert large.count("<rect") == 6  # three segments and three nodes between and in them
    assert "npu_0: 198 nodes" in large
    assert draw([GraphNode(f"n{n}", "Relu", "CPU", "why") for n in range(3)]).count('class="edge"') == 2


def test_all_files_at_once(tmp_path: Path) -> None:
    names = {name: str(tmp_path / name) for name in ("json", "junit", "markdown", "html")}
    head = dict(document().head)
    first = ReportFiles(**names)
    assert first.earlier() is None
    assert first.write("t", head, many_results(), seconds=1, earlier=None) is None
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    again = ReportFiles(baseline=names["json"])
    earlier = again.earlier()
    assert earlier is not None
    assert earlier[0].startswith("json of 2")
    assert str(again.write("t", head, many_results(), seconds=1, earlier=earlier)) == "no change"
    assert json_report.read(names["json"])[1] == sorted(many_results(), key=lambda result: result.case)


def test_what_cannot_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no folder"):
        ReportFiles(html=str(tmp_path / "none" / "x.html")).earlier()
    with pytest.raises(CaseError, match="not a conformance report"):
        ReportFiles(baseline=str(tmp_path / "none.json")).earlier()
    with pytest.raises(CaseError, match=r"cannot be written: Is a directory"):
        ReportFiles(html=str(tmp_path)).write("t", dict(document().head), (), seconds=0, earlier=None)
