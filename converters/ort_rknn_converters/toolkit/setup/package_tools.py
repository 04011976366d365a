"""Runs pip or uv so that nothing but the packages we mean is installed: by hash, from wheels, without their settings.

A registry, a mirror or a setting of the surroundings could otherwise bring another file of the same version, a local
version (``2.5.0+other``), or a source package, which runs its own code while it is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

__all__ = ["LOCK", "REGISTRY", "hashes", "only_these", "requirements_file", "tool_environment"]

REGISTRY = "https://pypi.org/simple"
"""Where packages come from unless somebody names a mirror; what it delivers is compared with the hashes."""

LOCK = Path(__file__).with_name("lock.txt")

_KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|XDG_\w+|(?:HTTPS?|ALL|NO)_PROXY"
    r"|SSL_CERT_(?:FILE|DIR)|(?:REQUESTS|CURL)_CA_BUNDLE|PIP_(?:CERT|CLIENT_CERT|PROXY|DEFAULT_TIMEOUT|TIMEOUT|RETRIES"
    r"|CACHE_DIR|NO_CACHE_DIR)|UV_(?:CACHE_DIR|NO_CACHE|HTTP_TIMEOUT|HTTP_RETRIES|PYTHON_INSTALL_DIR)",
    re.IGNORECASE,
)
"""Variables that pip and uv see: how programs and networks are found. None says what is installed, or from where."""


def tool_environment() -> dict[str, str]:
    """Environment variables for pip and uv: the surroundings' settings for them are left out, files included."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    return kept | {
        "PIP_CONFIG_FILE": os.devnull,  # which pip takes for: read no settings at all
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


@lru_cache(maxsize=1)
def hashes() -> Mapping[str, tuple[str, ...]]:
    """``name==version`` -> the hashes of its files."""
    found: dict[str, tuple[str, ...]] = {}
    pinned = ""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        word = line.strip().removesuffix("\\").strip()
        if word.startswith("--hash="):
            found[pinned] += (word,)
        elif word and not word.startswith("#"):
            pinned = word.replace("===", "==")
            found[pinned] = ()
    return found


def requirements_file(requirements: Sequence[str], folder: Path) -> Path:
    """Writes requirements with their hashes and ``===``, which takes no local version of the same number.

    Args:
        requirements: ``name==version``, maybe with a condition on the Python behind a semicolon.
        folder: Where to.

    Raises:
        KeyError: A release that the lock does not have.
        OSError: It cannot be written.
    """
    lines = []
    for line in requirements:
        pinned, _, condition = (part.strip() for part in line.partition(";"))
        head = pinned.replace("==", "===") + (f" ; {condition}" if condition else "")
        lines.append(" \\\n    ".join((head, *hashes()[pinned])))
    file = folder / "requirements.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def only_these(file: Path, index: str | None, wheels: Path | None = None) -> list[str]:
    """Arguments of ``pip install`` and ``uv pip install`` that leave no choice.

    Args:
        file: From :func:`requirements_file`.
        index: A mirror; default: :data:`REGISTRY`.
        wheels: A folder of wheels; nothing is fetched from anywhere then.
    """
    source = ["--index-url", index or REGISTRY] if wheels is None else ["--no-index", "--find-links", str(wheels)]
    return ["--require-hashes", "--no-deps", "--only-binary", ":all:", *source, "-r", str(file)]
