"""A headless Chromium that opens a page in a frame of a given width, runs a script in it and tells what it found."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_FRAME = """<!doctype html><body><pre id="found"></pre>
<iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script>addEventListener("message", ({{data}}) => {{ document.getElementById("found").textContent = data; }});</script>
"""


def browser() -> str:
    """Chromium's path; without one the test is skipped, and says so."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not found:
        pytest.skip("no chromium here: apt-get install chromium")
    return found


def probe(page: str, script: str, folder: Path, *, width: int, dark: bool, beside: Path | None = None) -> Any:
    """Open ``page`` (its text) and give what the JavaScript expression ``script`` comes to, as JSON says it.

    A page that needs other files is opened ``beside`` them; it leaves nothing there.
    """
    place = (folder if beside is None else beside) / "page-under-test.html"
    try:
        return _probe(page, script, folder, place, width, dark)
    finally:
        place.unlink(missing_ok=True)


def _probe(page: str, script: str, folder: Path, place: Path, width: int, dark: bool) -> Any:
    answer = f"<script>addEventListener('load', () => parent.postMessage(JSON.stringify({script}), '*'));</script>"
    # The page's policy lets no script run but its own: that of the test is added to it.
    digest = base64.b64encode(hashlib.sha256(answer[len("<script>") : -len("</script>")].encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ")
    place.write_text(page.replace("</body>", f"{answer}</body>"), encoding="utf-8")
    (folder / "frame.html").write_text(_FRAME.format(page=place.as_uri(), width=width), encoding="utf-8")
    done = subprocess.run(
        [
            browser(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            (folder / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[:500]
    assert found[1], f"the page said nothing:\n{done.stderr[-2000:]}"
    return json.loads(unescape(found[1]))
