"""Finds the Python that has the vendor's toolkit: one the user names, this one, or the private environment we made."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.package_versions import version_of
from ort_rknn_converters.util.user_dirs import toolkit_directory

__all__ = [
    "MISSING",
    "PYTHON_VARIABLE",
    "ToolkitPython",
    "child_environment",
    "find_python",
    "interpreter",
    "marker",
    "private_python",
    "toolkit_version",
]

PYTHON_VARIABLE = "ORT_RKNN_TOOLKIT_PYTHON"
MISSING = (
    "rknn-toolkit2 was not found. Run `ort-rknn toolkit install` (about 100 MB to download), or set"
    f" {PYTHON_VARIABLE} to a Python that has it"
)
"""The one sentence that says how to get the toolkit."""

Source = Literal["env", "private", "importable"]


@frozen
class ToolkitPython:
    """An interpreter that has the toolkit.

    Attributes:
        python: Path of the interpreter.
        source: ``env`` (the user's variable), ``importable`` (this interpreter) or ``private`` (made by us).
        version: Of rknn-toolkit2; empty when not known without starting it.
    """

    python: str
    source: Source
    version: str


def private_python() -> Path:
    """The private environment's interpreter, there or not."""
    return toolkit_directory() / "env" / "bin" / "python"


def marker() -> dict[str, Any] | None:
    """What the installer wrote when the private environment had proven itself, or None."""
    try:
        content = json.loads((toolkit_directory() / "toolkit.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and private_python().exists() else None


def _importable() -> str | None:
    """Version of the toolkit installed beside us, found without importing it."""
    spec = importlib.util.find_spec("rknn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not any((Path(place) / "api").is_dir() for place in places):
        return None
    return version_of("rknn-toolkit2") or None


@lru_cache(maxsize=8)
def _foreign_version(python: str) -> str:
    """Version of the toolkit that ``python`` has; asks it only when its folders do not say.

    Raises:
        ToolkitMissing: ``python`` does not start, or has no toolkit.
    """
    found = sorted(Path(python).parent.parent.glob("lib/python3*/site-packages/rknn_toolkit2-*.dist-info"))
    if found:
        return found[-1].name.removesuffix(".dist-info").split("-")[1]
    import subprocess  # which half of all starts can do without

    code = "from importlib.metadata import version; print(version('rknn-toolkit2'))"
    try:
        run = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolkitMissing(f"{PYTHON_VARIABLE}={python} cannot be started: {error}") from error
    if run.returncode:
        raise ToolkitMissing(f"{PYTHON_VARIABLE}={python} has no rknn-toolkit2 (it needs Python 3.8 to 3.12)")
    return run.stdout.strip()


def interpreter(python: str) -> ToolkitPython:
    """An interpreter the caller names, which is believed to have the toolkit."""
    return ToolkitPython(python, "private" if Path(python) == private_python() else "env", "")


def find_python() -> ToolkitPython:
    """The interpreter to run the toolkit with.

    Raises:
        ToolkitMissing: There is none; the message says how to get one.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        return ToolkitPython(named, "env", _foreign_version(named))
    version = _importable()
    if version is not None:
        return ToolkitPython(sys.executable, "importable", version)
    made = marker()
    if made is not None:
        return ToolkitPython(str(private_python()), "private", str(made.get("version", "")))
    raise ToolkitMissing(MISSING)


def toolkit_version() -> str | None:
    """Version of the toolkit that would be used, or None without one."""
    try:
        return find_python().version
    except ToolkitMissing:
        return None


def child_environment(toolkit: ToolkitPython, scratch: Path) -> dict[str, str]:
    """Environment variables for a child that runs the toolkit.

    Args:
        toolkit: The interpreter. The private one must not see modules of ours; others may need them.
        scratch: Its temporary folder: the toolkit leaves files behind when it crashes.
    """
    environment = dict(os.environ)
    for name in ("PYTHONPATH", "PYTHONHOME") if toolkit.source == "private" else ():
        environment.pop(name, None)
    for name in ("PYTHONWARNINGS", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONDEVMODE", "PYTHONMALLOC"):
        environment.pop(name, None)
    environment.update(
        TMPDIR=str(scratch),
        RKNN_LOG_LEVEL="3",  # the layer table is printed from this level on; measured: no time worth noting
        TQDM_DISABLE="1",
        PYTHONUTF8="1",
        PYTHONUNBUFFERED="1",
    )
    # Large pages for malloc: fewer page faults while weights are copied (measured on ResNet-50: 0.9 s of 1.4 s that the
    # system takes, for 0 to 3 % more memory). And blocks from 8 MB always go back when they are freed, where else the
    # size of the largest becomes the limit (measured: 7 % less memory for a small BERT, 1 % for ResNet-50, no more
    # CPU). C libraries that do not know these ignore them.
    environment.setdefault("GLIBC_TUNABLES", f"glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={8 << 20}")
    # The toolkit multiplies thousands of tiny matrices with numpy, whose other threads only ever wait for more, and
    # burn a core meanwhile (measured: 0.35 s of the 1.9 s of CPU of a small BERT, 0.7 s of 3.3 s of ViT-tiny).
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    return environment
