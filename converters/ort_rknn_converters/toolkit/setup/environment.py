"""Finds the Python that has the vendor's toolkit: one the user names, this one, or the private environment we made."""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ort_rknn_converters.errors import ToolkitBroken, ToolkitMissing
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.log import warn_once
from ort_rknn_converters.util.own_files import not_ours, read_own
from ort_rknn_converters.util.package_versions import version_of
from ort_rknn_converters.util.plain_data import TEXT, parse_json, record, rows
from ort_rknn_converters.util.this_python import this_python
from ort_rknn_converters.util.user_dirs import toolkit_directory

__all__ = [
    "MISSING",
    "PYTHON_VARIABLE",
    "ToolkitPython",
    "child_environment",
    "clean_environment",
    "failure_note",
    "find_python",
    "interpreter",
    "last_failure",
    "marker",
    "private_python",
    "repair",
    "toolkit_version",
]

PYTHON_VARIABLE = "ORT_RKNN_TOOLKIT_PYTHON"
MISSING = (
    "rknn-toolkit2 was not found. Run `ort-rknn toolkit install` (about 100 MB to download), or set"
    f" {PYTHON_VARIABLE} to a Python that has it"
)
"""The one sentence that says how to get the toolkit."""

_KEPT = frozenset({"PYTHONUSERBASE", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONHASHSEED"})
"""Variables of Python's that a child may see: they say where packages and files are, not how the program works."""

_MOST = 1 << 20  # bytes of the installer's note
_MARKER = record({"version": TEXT}, {"python": TEXT, "requirements": rows(TEXT), "unproven": TEXT})

_ALLOWED = (
    r"(PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PYTHON\w+|LD_LIBRARY_PATH|LD_PRELOAD|GLIBC_TUNABLES|MALLOC_\w+"
    r"|(OMP|GOMP|KMP|OPENBLAS|MKL|NUMEXPR|RKNN|ASAN|UBSAN|LSAN|TSAN)_\w+|VIRTUAL_ENV|XDG_\w+|COVERAGE_\w+|QEMU_\w+)\Z"
)
"""Variables that the closed toolkit sees: how programs are found, named and run; no keys, tokens or addresses.
qemu's say where an emulated board's files are: its programs start others of the same kind."""

Source = Literal["env", "private", "importable"]


@frozen
class ToolkitPython:
    """An interpreter that has the toolkit.

    Attributes:
        python: Path of the interpreter.
        source: ``env`` (the user's variable), ``importable`` (this interpreter) or ``private`` (made by us).
        version: Of rknn-toolkit2; empty when not known without starting it.
        folder: Where the toolkit's package is, if the interpreter alone would not find it there; else empty.
    """

    python: str
    source: Source
    version: str
    folder: str = ""


def private_python() -> Path:
    """The private environment's interpreter, there or not."""
    return toolkit_directory() / "env" / "bin" / "python"


def marker() -> dict[str, Any] | None:
    """Reads what the installer wrote when the private environment had proven itself, or None."""
    try:
        content: dict[str, Any] = parse_json(read_own(toolkit_directory() / "toolkit.json", _MOST), _MARKER)
    except (OSError, ValueError):
        return None
    if why := not_ours(private_python().parent):
        warn_once(f"the toolkit in {toolkit_directory()} is not used, because {why}")
        return None
    return content if private_python().exists() else None


def last_failure() -> str:
    """Returns why the last installation of the private environment failed; empty where none did."""
    from ort_rknn_converters.util.foreign_text import shown_lines  # only for who asks

    try:
        return shown_lines(read_own(failure_note(), _MOST).decode("utf-8", errors="replace").strip())
    except OSError:
        return ""


def failure_note() -> Path:
    """Path of the file that keeps why an installation failed, until the next one begins."""
    return toolkit_directory() / "failed.txt"


def _importable() -> tuple[str, str] | None:
    """Version and folder of the toolkit installed beside us, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("rknn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = next((Path(place).parent for place in places if (Path(place) / "api").is_dir()), None)
    version = version_of("rknn-toolkit2") if found else ""
    return (version, str(found)) if version else None


def _finds(folder: str) -> bool:
    """Whether a new process of this interpreter looks into ``folder`` by itself."""
    import site  # loaded already, nearly always

    return folder in (*site.getsitepackages(), site.getusersitepackages())


@lru_cache(maxsize=8)
def _foreign_version(python: str) -> str:
    """Version of the toolkit that ``python`` has; asks it only when its folders do not say.

    Raises:
        ToolkitMissing: ``python`` does not start, or has no toolkit.
    """
    try:
        found = sorted(Path(python).parent.parent.glob("lib/python3*/site-packages/rknn_toolkit2-*.dist-info"))
    except OSError:  # one may not look there; whether it starts, it says itself
        found = []
    if found:
        return found[-1].name.removesuffix(".dist-info").split("-")[1]
    import subprocess  # which half of all starts can do without

    from ort_rknn_converters.util.foreign_text import shown

    # The working folder, which -c looks into first, has no say.
    code = (
        "import sys; sys.path[:] = filter(None, sys.path)\n"
        "from importlib.metadata import version; print(version('rknn-toolkit2'))"
    )
    try:
        run = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=clean_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolkitMissing(f"{PYTHON_VARIABLE}={python} cannot be started: {error}") from error
    if run.returncode < 0:
        raise ToolkitBroken(f"{PYTHON_VARIABLE}={python} was ended by signal {-run.returncode} at its start")
    if not run.returncode and not run.stdout.strip()[:1].isdigit():
        raise ToolkitMissing(f"{PYTHON_VARIABLE}={python} is no Python: it answers a Python program with nothing")
    if run.returncode and "PackageNotFoundError" not in run.stderr:
        said = shown(run.stderr.strip().rpartition("\n")[2]) or "it says nothing"
        raise ToolkitMissing(
            f"{PYTHON_VARIABLE}={python} is no Python that works: it ended with status {run.returncode} ({said})"
        )
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
    python = this_python()
    beside_us = _importable() if python else None
    if beside_us is not None:
        version, folder = beside_us
        return ToolkitPython(python, "importable", version, "" if _finds(folder) else folder)
    made = marker()
    if made is not None:
        return ToolkitPython(str(private_python()), "private", str(made.get("version", "")))
    if private_python().is_symlink() and not private_python().exists():
        raise ToolkitBroken(
            f"rknn-toolkit2 does not start: the Python it was installed for is gone ({private_python()} leads to"
            f" {private_python().readlink()}). Install it again: `ort-rknn toolkit install --force`"
        )
    raise ToolkitMissing(MISSING)


def repair(toolkit: ToolkitPython) -> str:
    """The sentence that says what to do about a toolkit that is there and does not work."""
    if toolkit.source == "private":
        return "Repair it with `ort-rknn toolkit install --force`; `ort-rknn toolkit status` tries it"
    named = f"the one {PYTHON_VARIABLE} names" if toolkit.source == "env" else "beside this program"
    return (
        f"It is {named}: repair its packages there (rknn-toolkit2 {toolkit.version}, numpy, onnx, protobuf), or use a"
        f" toolkit of its own: `ort-rknn toolkit install`{', and unset ' + PYTHON_VARIABLE if 'one' in named else ''}"
    )


def toolkit_version() -> str | None:
    """Version of the toolkit that would be used, or None without one."""
    try:
        return find_python().version
    except ToolkitMissing:
        return None


def clean_environment() -> dict[str, str]:
    """Returns this program's environment variables without those that change another Python."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") or name in _KEPT}
    for name in ("LD_LIBRARY_PATH", "LD_PRELOAD") if getattr(sys, "frozen", False) else ():
        environment.pop(name, None)  # PyInstaller's, which keeps the user's own beside it
        if original := environment.pop(f"{name}_ORIG", ""):
            environment[name] = original
    return environment


def child_environment(toolkit: ToolkitPython, scratch: Path) -> dict[str, str]:
    """Environment variables for a child that runs the toolkit.

    Args:
        toolkit: The interpreter. It sees nothing of what this program was told to import, unless the toolkit itself was
            found that way.
        scratch: Its temporary folder: the toolkit leaves files behind when it crashes.
    """
    environment = {name: value for name, value in clean_environment().items() if re.match(_ALLOWED, name)}
    if toolkit.source == "importable" and "PYTHONHOME" in os.environ:
        environment["PYTHONHOME"] = os.environ["PYTHONHOME"]  # this interpreter's own
    if toolkit.folder:  # what it needs may be in the others
        others = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
        environment["PYTHONPATH"] = os.pathsep.join([toolkit.folder, *others])
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
