"""Fits the pages into the site: those the navigation forgot, and links that lead out of docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)]*)\)")


def on_config(config: Any) -> Any:
    """Puts pages that the navigation does not name under Guides."""
    named = set(_files(config["nav"]))
    forgotten = sorted(path.name for path in DOCS.glob("*.md") if path.name not in named)
    guides = next(part["Guides"] for part in config["nav"] if "Guides" in part)
    guides.extend(forgotten)
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Makes plain words of links to files of the repository: the site does not have them."""
    return OUTSIDE.sub(lambda found: f"{found[1]} (`{found[2].removeprefix('../')}` in the repository)", markdown)


def _files(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [name for part in parts for name in _files(part)]
