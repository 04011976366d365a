"""A folder of wheels: all that the private environment is made of, fetched on one machine and installed on another.

A board without a network gets the folder on a stick. Its list names each file with its SHA-256, which is compared
before anything is installed: what was copied badly is found here and not as a crash of the compiler.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ort_rknn_converters.toolkit.setup.find_python import (
    NEWEST,
    OLDEST,
    InstallFailed,
    choose_interpreter,
    is_installed,
)
from ort_rknn_converters.toolkit.setup.package_tools import only_these, requirements_file, tool_environment
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import is_file, is_plain_name, read_regular
from ort_rknn_converters.util.plain_data import ANYTHING, TEXT, by_name, parse_json, record, rows
from ort_rknn_converters.util.this_python import this_python

__all__ = ["LIST", "MACHINES", "Wheelhouse", "download", "read_wheelhouse", "requirements_for"]

LIST = "ort-rknn-toolkit.json"
"""Name of the folder's list."""

MACHINES = ("x86_64", "aarch64")
_FORMAT = 1
_MOST = 1 << 20  # bytes of the list
_FORM = record(
    {
        "format": ANYTHING,
        "toolkit": TEXT,
        "python": TEXT,
        "machine": TEXT,
        "requirements": rows(TEXT),
        "sha256": by_name(TEXT),
    }
)
_GLIBC = (17, 24, 26, 27, 28, 31, 34)  # versions 2.x whose wheels are taken: Ubuntu 22.04 has 2.35, Debian 12 2.36
_DOWNLOAD_S = 1800.0  # a guess: 100 MB over a line of 0.5 Mbit/s


@frozen
class Wheelhouse:
    """A folder of wheels that was checked.

    Attributes:
        folder: Where it is.
        python: The Python the wheels are for, such as ``3.11``.
        machine: The processor they are for.
        size: Bytes of all wheels.
    """

    folder: Path
    python: str
    machine: str
    size: int

    @property
    def version(self) -> tuple[int, int]:
        """The Python as numbers."""
        major, minor = _numbers(self.python)[:2]
        return major, minor


def requirements_for(python: str, requirements: Sequence[str]) -> list[str]:
    """Picks those of the pinned requirements whose conditions hold for a Python, without the conditions.

    Args:
        python: Such as ``3.11``.
        requirements: Lines of the form ``name==version; python_version >= '3.9' and python_version < '3.11'``.
    """
    wanted = _numbers(python)
    kept = []
    for line in requirements:
        pinned, _, marker = line.partition(";")
        if all(_holds(wanted, one) for one in marker.split(" and ") if one.strip()):
            kept.append(pinned.strip())
    return kept


def _numbers(version: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3})?", version):
        raise InstallFailed(f"{shown(version)!r} is no version of Python. Name one like 3.11 with --python")
    return tuple(map(int, version.split(".")))


def _holds(wanted: tuple[int, ...], condition: str) -> bool:
    """One comparison of a marker with ``python_version``; the list has no others."""
    name, sign, version = condition.split()
    assert name == "python_version"
    given = _numbers(version.strip("'\""))
    return {"<": wanted < given, ">=": wanted >= given, "==": wanted == given}[sign]


def download(
    folder: Path,
    *,
    toolkit: str,
    requirements: Sequence[str],
    machine: str,
    python: str,
    index: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Wheelhouse:
    """Fetches the toolkit and what it needs, for another machine, and writes the list with their digests.

    Args:
        folder: Made when missing; wheels of another try are kept.
        toolkit: Version of rknn-toolkit2.
        requirements: What it needs, pinned, with conditions on the Python.
        machine: ``x86_64`` or ``aarch64``.
        python: Of that machine, such as ``3.11``.
        index: A mirror of the registry; what it delivers must have the hashes we know.
        progress: Called with a line of pip at a time.

    Raises:
        InstallFailed: There are no such wheels, or they cannot be fetched.
    """
    if machine not in MACHINES:
        raise InstallFailed(f"rknn-toolkit2 has wheels for {' and '.join(MACHINES)}, not for {machine}")
    numbers = _numbers(python)
    if not OLDEST <= numbers <= NEWEST:
        limits = f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        raise InstallFailed(f"rknn-toolkit2 has no wheels for Python {python}, but for {limits}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InstallFailed(f"{folder} cannot be made: {error.strerror}") from error
    wanted = [f"rknn-toolkit2=={toolkit}", *requirements_for(python, requirements)]
    with tempfile.TemporaryDirectory() as scratch:
        file = requirements_file(wanted, Path(scratch))
        command = [*_pip(Path(scratch)), "download", *only_these(file, index), "--implementation=cp"]
        command += [f"--python-version={python}", "--progress-bar=off", "--disable-pip-version-check"]
        command += [f"--platform=manylinux_2_{minor}_{machine}" for minor in reversed(_GLIBC)]
        command += [f"--platform=manylinux2014_{machine}", f"--platform=linux_{machine}", f"--dest={folder.absolute()}"]
        _watch(command, progress)
    named = {line.partition("==")[0].replace("-", "_"): line.partition("==")[2] for line in wanted}
    files = {}
    for file in sorted(folder.glob("*.whl")):
        package, version = file.name.split("-")[:2]
        if named.get(package) == version:
            files[file.name] = _digest(file)
    about = {
        "format": _FORMAT,
        "toolkit": toolkit,
        "python": python,
        "machine": machine,
        "requirements": wanted,
        "sha256": files,
    }
    (folder / LIST).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return read_wheelhouse(folder, toolkit=toolkit, machine=machine)


def _pip(scratch: Path) -> list[str]:
    """The command that starts pip: this Python's, else that of an environment made for the purpose."""
    python = this_python()
    if python and is_installed("pip"):
        return [python, "-I", "-m", "pip"]
    interpreter = choose_interpreter(None)
    assert interpreter is not None
    done = subprocess.run(
        [interpreter.path, "-I", "-m", "venv", str(scratch / "env")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=tool_environment(),
    )
    if done.returncode:
        raise InstallFailed(f"pip is needed to download and is not there, nor can {interpreter.path} -m venv get it")
    return [str(scratch / "env" / "bin" / "python"), "-I", "-m", "pip"]


def _watch(command: Sequence[str], progress: Callable[[str], None]) -> None:
    """Run pip; its failure says what the registry lacks.

    Raises:
        InstallFailed: It failed.
    """
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=tool_environment(),
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line.strip())
                progress(shown(line.strip()))
            code = process.wait(timeout=_DOWNLOAD_S)
    except OSError as error:
        raise InstallFailed(f"pip cannot be started: {error}") from error
    if code:
        said = "\n".join(line for line in lines if line)[-1500:]
        raise InstallFailed(
            "the wheels cannot be fetched. Check the network (HTTPS_PROXY is read; a mirror is named by --index-url),"
            f" and run this again: what is there is kept\n{said}"
        )


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        found = hashlib.sha256()
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def read_wheelhouse(folder: Path, *, toolkit: str, machine: str | None = None) -> Wheelhouse:
    """Checks a folder of wheels: its list, each file's digest, and whether it is for this machine.

    Args:
        folder: As ``ort-rknn toolkit download`` made it.
        toolkit: The version of rknn-toolkit2 this package installs.
        machine: The processor it must be for; default: this one's.

    Raises:
        InstallFailed: It is no such folder, it is damaged or incomplete, or it is for another machine.
    """
    again = "Make it anew with `ort-rknn toolkit download`, or copy it again"
    try:
        about: Any = parse_json(read_regular(folder / LIST, _MOST), _FORM)
        files, wanted, form = about["sha256"], about["requirements"], about["format"]
        python, made_for, version = about["python"], about["machine"], about["toolkit"]
    except OSError as error:
        raise InstallFailed(f"{folder} has no {LIST}: it is no folder of `ort-rknn toolkit download`") from error
    except ValueError as error:
        raise InstallFailed(f"{folder / LIST} cannot be read ({error!r}). {again}") from error
    if form != _FORMAT or version != toolkit:
        raise InstallFailed(
            f"{folder} has rknn-toolkit2 {shown(version)}, and this ort-rknn installs {toolkit}. {again}"
        )
    here = machine or platform.machine()
    if made_for != here:
        raise InstallFailed(
            f"{folder} is for {shown(made_for)}, this machine is {here}. On a PC:"
            f" `ort-rknn toolkit download {folder.name} --platform {here} --python {python}`"
        )
    if len(files) < len(wanted):
        raise InstallFailed(f"{folder} has {len(files)} wheels, and {len(wanted)} are needed. {again}")
    _numbers(python)
    size = 0
    for name, digest in files.items():
        file = folder / name
        if not is_plain_name(name) or not is_file(file):
            raise InstallFailed(f"{folder} lacks {shown(name)}. {again}")
        if _digest(file) != digest:
            raise InstallFailed(f"{file} is damaged: its SHA-256 is not the one in {LIST}. {again}")
        size += file.stat().st_size
    return Wheelhouse(folder.absolute(), python, made_for, size)
