"""Checks a built site: every link leads to a page and an anchor that are there, and no page loads anything from elsewhere.

python -m docs.check_site build/site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
}
"""Elements that a browser fetches by itself; of `link` only some kinds are."""

_FETCHED_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
    "manifest",
    "prefetch",
}
_IN_STYLES = re.compile(r"url\(\s*['\"]?(?!data:|#)(//|https?:)|@import\s+['\"](//|https?:)")


class _Page(HTMLParser):
    """Anchors, links and loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Takes note of a tag."""
        found = {name: value or "" for name, value in attrs}
        self.anchors.update(found[name] for name in ("id", "name") if found.get(name))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "link" and _FETCHED_LINKS & set(found.get("rel", "").split()):
            self.loaded.append(found.get("href", ""))
        for name in _LOADED.get(tag, ()):
            self.loaded += [part.split()[0] for part in found.get(name, "").split(",") if part.strip()]


@cache
def _page(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def problems(site: Path) -> Iterator[str]:
    """Everything that is wrong, one line each."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        yield f"{site} has no pages"
    for path in pages:
        here = path.relative_to(site)
        if here.name == "404.html":
            continue  # its links begin at the root of a server
        page = _page(path)
        for target in page.loaded:
            if urlsplit(target).scheme not in ("", "data") or target.startswith("//"):
                yield f"{here} loads {target}"
            elif not urlsplit(target).scheme and not _there(path, target).is_file():
                yield f"{here} loads {target}, which is not there"
        for link in page.links:
            yield from _broken(path, here, link)
    for style in sorted(site.rglob("*.css")):
        if _IN_STYLES.search(style.read_text(encoding="utf-8")):
            yield f"{style.relative_to(site)} loads something from elsewhere"


def _there(path: Path, target: str) -> Path:
    return (path.parent / unquote(urlsplit(target).path)).resolve()


def _broken(path: Path, here: Path, link: str) -> Iterator[str]:
    parts = urlsplit(link)
    if parts.scheme or link.startswith("//"):
        return
    target = _there(path, link) if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        yield f"{here} links to {link}, which is not there"
    elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _page(target).anchors:
        yield f"{here} links to {link}, which has no such anchor"


def main() -> int:
    """Print what is wrong; exit code 1 if anything is."""
    site = Path(sys.argv[1])
    found = list(problems(site))
    print(
        "\n".join(found)
        or f"{sum(1 for _ in site.rglob('*.html'))} pages: every link leads somewhere, nothing is loaded from elsewhere"
    )
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
