"""The page in a real browser: it shows all, filters, sorts, opens details, and fits narrow and wide, light and dark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ort_rknn_conformance.report import page
from ort_rknn_conformance.report.baseline import Change, Difference
from ort_rknn_conformance.result import GroupResult, LayerError
from tests.helpers.browser import probe
from tests.helpers.reports import document, many_results, model_result

SCRIPT = """(() => {
  const rows = (label) => [...document.querySelectorAll(`table[aria-label="${label}"] > tbody > tr.row`)];
  const seen = {
    fits: document.documentElement.scrollWidth <= document.documentElement.clientWidth,
    width: innerWidth, back: getComputedStyle(document.body).backgroundColor,
    headings: [...document.querySelectorAll("h2")].map((h) => h.textContent),
    banner: document.querySelector(".banner b").textContent,
    bold: document.querySelectorAll("table b").length,
    cases: rows("cases").length, plots: document.querySelectorAll("svg.plot").length,
    graph: document.querySelectorAll("svg.graph .node").length,
    layers: [...document.querySelectorAll('table[aria-label="layers"] tbody td:first-child')].map((cell) =>
      cell.textContent),
    groups: [...document.querySelectorAll("table.groups tbody tr")].map((row) => row.textContent),
  };
  const search = document.querySelector('input[aria-label="Filter cases"]');
  if (search) {
    search.value = "relu test_00"; search.dispatchEvent(new Event("input"));
    seen.filtered = rows("cases").length;
    search.value = ""; search.dispatchEvent(new Event("input"));
    const headings = [...document.querySelectorAll('table[aria-label="cases"] th button')];
    const sort = headings.find((button) => button.textContent === "rel. RMS");
    sort.click();
    seen.worst = rows("cases")[0].querySelector("code").textContent;
    rows("cases")[0].click();
    seen.detail = document.querySelector("tr.detail").textContent;
    seen.fitsWithDetail = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
  }
  return seen;
})()"""

CHANGED = Difference("then.json", (Change("a", "wrong → right"),), (Change("b", "right → wrong"),))


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_many_cases(width: int, dark: bool, tmp_path: Path) -> None:
    text = page.render(document(*many_results(), difference=CHANGED))
    seen = probe(text, SCRIPT, tmp_path, width=width, dark=dark)
    assert seen["width"] == width
    assert seen["fits"]
    assert seen["fitsWithDetail"]
    assert seen["back"] == ("rgb(17, 20, 26)" if dark else "rgb(245, 246, 248)")
    assert seen["headings"] == ["Since then.json", "Errors", "Ops", "Cases", "Versions"]
    assert seen["banner"] == "3 of 10 cases are bad"
    assert (seen["cases"], seen["filtered"], seen["bold"]) == (10, 6, 0)
    assert seen["worst"].startswith("node/</script>")
    assert "largest differences" in seen["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_one_model(width: int, tmp_path: Path) -> None:
    seen = probe(page.render(document(model_result())), SCRIPT, tmp_path, width=width, dark=False)
    assert seen["fits"]
    assert seen["headings"] == ["Outputs", "Layers", "Placement", "Ops", "Versions"]
    assert seen["banner"] == "Agrees with CPU onnxruntime"
    assert (seen["plots"], seen["graph"]) == (1, 3)


@pytest.mark.slow
def test_layers_without_a_number_come_last_and_groups_are_shown(tmp_path: Path) -> None:
    layers = tuple(
        LayerError(name, "Conv", name, own, entire, 1.0, 0)
        for name, own, entire in (("b", 0.1, 0.2), ("a", 0.3, 0.3), ("n", None, 0.9), ("m", None, float("nan")))
    )
    result = model_result()
    groups = (
        GroupResult(1, "4-83", 80, 0.9, 0.9, 1.0, 0.1, False),
        GroupResult(1, "0-3", 4, 620.0, 0.0, 0.0, 0.02, True),
    )
    result = replace(result, layers=layers, outputs=(replace(result.outputs[0], groups=groups),))
    seen = probe(page.render(document(result)), SCRIPT, tmp_path, width=1280, dark=False)
    assert seen["layers"] == ["a", "b", "n", "m"]
    assert [row.split(" of axis 1")[0] for row in seen["groups"]] == ["0-3", "4-83"]
    assert seen["groups"][1].endswith("off")
    assert seen["fits"]


ATTACKS = (
    "</script><script>parent.hit = document.hit = 1</script>",
    "<img src=x onerror=document.hit=1>",
    "</title></text></svg><svg onload=document.hit=1>",
    '" onmouseover="document.hit=1',
    "javascript:document.hit=1",
    "\u202egnp.exe\u2066",
    "a\x1b[2J\r\nb",
    "x" * 5000,
)
_LOOK = """(() => {
  for (const row of document.querySelectorAll("tr.row")) row.click();
  return {hit: document.hit === undefined ? 0 : document.hit, scripts: document.scripts.length,
    images: document.images.length, handlers: document.querySelectorAll("[onload],[onerror],[onmouseover]").length,
    links: document.querySelectorAll("a[href^=javascript]").length,
    policy: document.querySelector("meta[http-equiv=Content-Security-Policy]").content,
    bidi: /[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.textContent),
    headings: document.querySelectorAll("h2").length};
})()"""


@pytest.mark.slow
def test_names_of_strangers_are_text(tmp_path: Path) -> None:
    """A model, a report and a plan may call things whatever they want: nothing of it runs, loads or is markup."""
    results = []
    for attack in ATTACKS:
        whole = model_result()
        outputs = tuple(replace(one, name=attack, why=attack, ok=False) for one in whole.outputs)
        graph = tuple(
            replace(node, name=attack, op_type=attack, reason=attack, segment=attack, place=attack)
            for node in whole.graph
        )
        layers = tuple(replace(layer, node=attack, op_type=attack, advice=attack) for layer in whole.layers)
        results.append(
            replace(
                whole,
                case=attack,
                message=attack,
                outputs=outputs,
                graph=graph,
                layers=layers,
                ops={attack: 1},
                cpu_reasons={attack: 1},
                verdict="wrong",
            )
        )
    changed = Difference(ATTACKS[0], (Change(ATTACKS[1], ATTACKS[0]),), (Change(ATTACKS[0], ATTACKS[2]),))
    for number, shown in enumerate(([*results], results[2:3])):
        folder = tmp_path / str(number)
        folder.mkdir()
        text = page.render(document(*shown, title=ATTACKS[number], difference=changed))
        seen = probe(text, _LOOK, folder, width=1280, dark=False)
        assert seen["hit"] == 0
        assert seen["scripts"] == 3  # the data, the page's own, and this test's
        assert (seen["images"], seen["handlers"], seen["links"], seen["bidi"]) == (0, 0, 0, False)
        assert "default-src 'none'" in seen["policy"]
        assert seen["headings"] >= 3
