"""The built site in a real browser (`make test-page`): it fits narrow and wide, light and dark, and fetches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.browser import probe

SITE = Path(__file__).resolve().parents[2] / "build" / "site"
PAGES = ("index.html", "options.html", "errors.html", "recipes.html", "coverage.html", "api/ort_rknn.html")

SCRIPT = """({
  fits: document.documentElement.scrollWidth <= document.documentElement.clientWidth,
  width: innerWidth,
  title: document.querySelector("h1").childNodes[0].textContent.trim(),
  scheme: document.body.getAttribute("data-md-color-scheme"),
  links: document.querySelectorAll(".md-nav--primary a").length,
  fetched: performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith("file:")),
  raw: document.body.innerText.match(/:(class|meth|func|mod|data|attr):`/g),
})"""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_page(page: str, width: int, dark: bool, tmp_path: Path) -> None:
    path = SITE / page
    if not path.is_file():
        pytest.skip("no site here: make docs")
    seen = probe(path.read_text(encoding="utf-8"), SCRIPT, tmp_path, width=width, dark=dark, beside=path.parent)
    assert seen["width"] == width
    assert seen["fits"], f"{page} is wider than {width} pixels"
    assert seen["title"]
    assert seen["links"] > 15
    assert seen["fetched"] == []
    assert seen["raw"] is None, "a role of reStructuredText shows"
    assert seen["scheme"] == ("slate" if dark else "default")
