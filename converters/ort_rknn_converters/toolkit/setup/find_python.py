"""Finds a Python that rknn-toolkit2 has wheels for, and uv or pip to fill an environment with."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.toolkit.setup.environment import clean_environment
from ort_rknn_converters.toolkit.setup.package_tools import tool_environment
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.this_python import this_python

__all__ = [
    "NEWEST",
    "NO_PYTHON",
    "OLDEST",
    "InstallFailed",
    "Interpreter",
    "choose_interpreter",
    "find_uv",
    "is_installed",
    "probe",
]

OLDEST, NEWEST = (3, 8), (3, 12)  # the vendor has wheels for 3.6 to 3.12; 3.8 is the oldest ours was run with
NO_PYTHON = (
    "Install one with its venv module (on Debian 12 and Ubuntu: apt install python3.11-venv or python3.12-venv; Debian"
    " 13 has 3.13 only), or name one with --python PATH, or install uv (pip install uv), which fetches a Python from"
    " github.com, and run this again. Without any of it: `ort-rknn convert --on user@pc MODEL` converts on a PC by ssh,"
    " and a file that was converted elsewhere opens here on any Python"
)
"""What to do where there is no Python that the toolkit has wheels for."""
_PROBE = "import sys, importlib.util as u; print(*sys.version_info[:2], int(bool(u.find_spec('ensurepip'))))"
PROBE_SECONDS = 30  # a guess: a cold start from an SD card


class InstallFailed(ToolkitMissing):
    """Raised when the private environment could not be made; the message says what to do."""


@frozen
class Interpreter:
    """A Python that starts.

    Attributes:
        path: What to call it by.
        version: (major, minor).
        ensurepip: Whether ``python -m venv`` can give an environment its pip (Debian packs that separately).
    """

    path: str
    version: tuple[int, int]
    ensurepip: bool

    @property
    def fits(self) -> bool:
        """Whether the toolkit has wheels for it."""
        return OLDEST <= self.version <= NEWEST


def find_uv() -> tuple[str, ...] | None:
    """The command that starts uv, or None."""
    found = shutil.which("uv")
    if found:
        return (found,)
    python = this_python()
    if python and is_installed("uv"):
        return (python, "-I", "-m", "uv")
    return None


def is_installed(package: str) -> bool:
    """Whether a package is there; a folder of its name in the working folder is none."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None


def probe(path: str, environment: Mapping[str, str] | None = None) -> Interpreter | None:
    """Start ``path`` and ask it what it is; None when it does not start (a pyenv shim, a broken link)."""
    environment = clean_environment() if environment is None else environment
    try:
        run = subprocess.run(
            [path, "-I", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
            env=environment,
        )
        major, minor, ensurepip = (int(word) for word in run.stdout.split())
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return Interpreter(path, (major, minor), bool(ensurepip)) if run.returncode == 0 else None


def _uv_python(uv: Sequence[str]) -> Interpreter | None:
    """A Python uv knows of; nothing is downloaded for this question."""
    wanted = f">={OLDEST[0]}.{OLDEST[1]},<{NEWEST[0]}.{NEWEST[1] + 1}"
    command = [*uv, "--no-config", "python", "find", "--no-project", "--no-python-downloads", wanted]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False, env=tool_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return probe(run.stdout.strip()) if run.returncode == 0 else None


def choose_interpreter(
    uv: Sequence[str] | None, wanted: str | None = None, exactly: tuple[int, int] | None = None
) -> Interpreter | None:
    """The Python to build the environment on.

    Args:
        uv: The command that starts uv, if it may be used.
        wanted: A path or command the user asked for.
        exactly: The version that wheels at hand are for; then nothing is downloaded.

    Returns:
        This interpreter where it fits, else one on the PATH, else one uv knows, else None: uv may download one.

    Raises:
        InstallFailed: ``wanted`` does not fit, or nothing was found and there is no uv.
    """
    limits = f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    if wanted:
        found = probe(wanted)
        if found is None:
            raise InstallFailed(f"{wanted} is no Python that starts. Name one with --python, {limits}")
        if not found.fits:
            raise InstallFailed(
                f"{wanted} is Python {found.version[0]}.{found.version[1]}, rknn-toolkit2 has wheels for {limits}"
            )
        if exactly is not None and found.version != exactly:
            raise InstallFailed(
                f"{wanted} is Python {found.version[0]}.{found.version[1]}, and the wheels are for"
                f" {exactly[0]}.{exactly[1]}. Name that one with --python, or download the wheels for this one"
            )
        return found
    numbered = (f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1))
    names = [this_python() or "python3", *numbered, "python3"]
    for name in names:
        path = shutil.which(name)
        found = probe(path) if path else None
        asked_for = found is not None and exactly in (None, found.version)
        if found is not None and asked_for and found.fits and (uv or found.ensurepip):
            return found
    if exactly is not None:
        raise InstallFailed(
            f"the wheels are for Python {exactly[0]}.{exactly[1]}, which is not here (with its venv module). Install"
            " it, name it with --python PATH, or download the wheels for a Python that is here"
        )
    if uv:
        return _uv_python(uv)
    raise InstallFailed(
        f"no usable Python: rknn-toolkit2 has wheels for {limits}, this is {sys.version_info[0]}.{sys.version_info[1]}."
        f" {NO_PYTHON}"
    )
