"""Makes the private environment: rknn-toolkit2 without its false pins, in the user's cache directory.

What was measured behind the list of packages: the toolkit's declared torch, scipy, OpenCV, psutil, ruamel.yaml and
fast-histogram are not needed to convert and simulate ONNX models (``stub_modules.py`` replaces the first three); of its
upper bounds only ``onnx<1.19`` and ``protobuf<7`` are real. Every version is pinned: an environment made in a year
compiles like one made today.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import Timeout

from ort_rknn_converters.errors import ConvertError, NpuNotOpened
from ort_rknn_converters.toolkit.setup.environment import ToolkitPython, failure_note, marker, private_python
from ort_rknn_converters.toolkit.setup.find_python import (
    NEWEST,
    NO_PYTHON,
    OLDEST,
    InstallFailed,
    choose_interpreter,
    find_uv,
    probe,
)
from ort_rknn_converters.toolkit.setup.package_tools import only_these, requirements_file, tool_environment
from ort_rknn_converters.toolkit.setup.wheelhouse import MACHINES, Wheelhouse, read_wheelhouse
from ort_rknn_converters.util.file_lock import held
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.own_files import make_private, write_own
from ort_rknn_converters.util.user_dirs import size_on_disk, toolkit_directory, unusable

__all__ = ["REQUIREMENTS", "TOOLKIT_VERSION", "InstallFailed", "install"]

TOOLKIT_VERSION = "2.5.0"
# The newest for each Python within onnx>=1.16.1,<1.19, protobuf>=4.21.6,<7, numpy<2.4, onnxruntime>=1.17, tqdm>=4.66,
# and what these need in turn. numpy 2.4 no longer turns one-element arrays into numbers, on which the toolkit's fusing
# of masked attention relies: with it every BERT is refused (seen with 2.4.6; 2.3.5 is fine).
REQUIREMENTS = (
    "onnx==1.17.0; python_version < '3.9'",
    "onnx==1.18.0; python_version >= '3.9'",
    "protobuf==5.29.6; python_version < '3.9'",
    "protobuf==6.33.6; python_version >= '3.9'",
    "numpy==1.24.4; python_version < '3.9'",
    "numpy==2.0.2; python_version == '3.9'",
    "numpy==2.2.6; python_version == '3.10'",
    "numpy==2.3.5; python_version >= '3.11'",
    "onnxruntime==1.19.2; python_version < '3.10'",
    "onnxruntime==1.23.2; python_version == '3.10'",
    "onnxruntime==1.32.0; python_version >= '3.11'",
    "tqdm==4.70.1",
    "flatbuffers==25.12.19",
    "packaging==26.2; python_version < '3.9'",
    "packaging==26.3; python_version == '3.9'",
    "packaging==26.4; python_version >= '3.10'",
    "typing-extensions==4.16.0; python_version >= '3.9'",
    "coloredlogs==15.0.1; python_version < '3.11'",
    "humanfriendly==10.0; python_version < '3.11'",
    "mpmath==1.3.0; python_version < '3.11'",
    "sympy==1.13.3; python_version < '3.9'",
    "sympy==1.14.0; python_version >= '3.9' and python_version < '3.11'",
)
REQUIRED = tuple(dict.fromkeys(line.partition("==")[0] for line in REQUIREMENTS))
_END_S = 60.0  # seconds that pip or uv may take to be gone after the last line it printed; a guess
NEEDED_BYTES = 600_000_000  # measured: 300 MB in the end; downloads and what is pruned again come on top
_CAUSES = (
    (r"No space left on device|os error 28|Errno 28", "disk"),
    (r"Permission denied|Read-only file system|os error 13|os error 30", "unwritable"),
    (
        r"NewConnectionError|Failed to establish|ConnectTimeout|ReadTimeout|ProxyError|SSLError|CERTIFICATE_VERIFY"
        r"|name resolution|Name or service not known|dns error|Connection refused|Network is unreachable"
        r"|error sending request|Failed to fetch|client error \(Connect\)|timed out",
        "network",
    ),
    (
        r"no matching distribution|could not find a version|no solution found|no wheels with a matching"
        r"|not found in the|do not match the hashes|hash mismatch",
        "wheel",
    ),
)

Progress = Callable[[str], None]
Prove = Callable[[str], str]
"""Converts a model with the toolkit of a Python, and returns the toolkit's version."""


def _explain(output: str, directory: Path, doing: str) -> InstallFailed:
    """Turn what pip or uv printed into one sentence with the cure."""
    last = "\n".join(output.strip().splitlines()[-8:])
    cause = next((name for pattern, name in _CAUSES if re.search(pattern, output, re.IGNORECASE)), "other")
    sentence = {
        "disk": f"the disk is full: {directory} needs {NEEDED_BYTES // 1_000_000} MB free. Make room, or set"
        " ORT_RKNN_CACHE_DIR to a folder on another disk, and run this again",
        "unwritable": f"{directory} cannot be written. Set ORT_RKNN_CACHE_DIR to a folder that can",
        "network": "the package index cannot be reached. Check the network (HTTPS_PROXY is read; a mirror is named by"
        " --index-url, settings of pip and uv are not looked at), and run this again: it continues where it stopped",
        "wheel": f"the package index has no rknn-toolkit2 {TOOLKIT_VERSION} (or of {', '.join(REQUIRED)})"
        f" for this Python on {platform.system()} {platform.machine()}. It has wheels for Python 3.8 to 3.12 on Linux"
        " x86_64 and aarch64: name another interpreter with --python, or convert on a PC",
        "other": f"{doing} failed. Run this again (it continues where it stopped), or with --force to begin anew",
    }[cause]
    return InstallFailed(f"{sentence}\n{last}" if last else sentence)


def _run(command: Sequence[str], directory: Path, doing: str, progress: Progress) -> None:
    """Run one command, pass on what it prints, and explain its failure.

    Raises:
        InstallFailed: It failed.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=directory,
        env=tool_environment(),
        umask=0o077,
        start_new_session=True,
    )
    lines: deque[str] = deque(maxlen=200)
    try:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                lines.append(line)
                progress(shown(line.strip()))
        code = process.wait(_END_S)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        raise
    if code:
        raise _explain("".join(lines), directory, doing)


def _make_room(directory: Path) -> None:
    """Create the folder, and refuse at once where it cannot work.

    Raises:
        InstallFailed: Another system or CPU, an unwritable folder or a full disk.
    """
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        raise InstallFailed(
            f"rknn-toolkit2 exists for Linux on {' and '.join(MACHINES)} only, this is {platform.system()}"
            f" {platform.machine()}. Convert on such a machine and copy the compiled model"
        )
    if why := unusable(directory):
        raise InstallFailed(f"there is no place for it, because {why}. Set ORT_RKNN_CACHE_DIR to a folder")
    try:
        make_private(directory)
        probe_file = directory / f".writable-{os.getpid()}"
        probe_file.write_bytes(b"")
        probe_file.unlink()
    except OSError as error:
        raise InstallFailed(
            f"{directory} cannot be written ({error.strerror or error}). Set ORT_RKNN_CACHE_DIR to a folder that can"
        ) from error
    there = size_on_disk(directory)
    if shutil.disk_usage(directory).free + there < NEEDED_BYTES:
        raise _explain("No space left on device", directory, "")


def _make_environment(
    uv: Sequence[str] | None, wanted: str | None, directory: Path, progress: Progress, source: Wheelhouse | None
) -> None:
    """Make ``env`` unless a usable one is there already."""
    environment = directory / "env"
    there = probe(str(private_python()))
    for_source = source is None or (there is not None and there.version == source.version)
    if there is not None and there.fits and wanted is None and for_source and (uv or there.ensurepip):
        progress("continuing with the environment that is there")
        return
    interpreter = choose_interpreter(uv, wanted, None if source is None else source.version)
    shutil.rmtree(environment, ignore_errors=True)
    if uv:
        path = interpreter.path if interpreter else ">=3.8,<3.13"  # uv then downloads one
        command = [*uv, "--no-config", "venv", "--no-project", "--python", path, str(environment)]
    else:
        assert interpreter is not None
        command = [interpreter.path, "-I", "-m", "venv", str(environment)]
    progress("making the environment")
    try:
        _run(command, directory, "making the environment", progress)
    except InstallFailed as error:
        if interpreter is not None:
            raise
        last = str(error).partition("\n")[2]
        raise InstallFailed(
            f"no Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is here, and uv could not fetch one (it"
            f" takes them from github.com). {NO_PYTHON}\n{last}"
        ) from error


def _fill(
    uv: Sequence[str] | None, directory: Path, progress: Progress, source: Wheelhouse | None, index: str | None
) -> None:
    """Install the packages; what is there already is kept."""
    python = str(private_python())
    if uv:
        install = [*uv, "--no-config", "pip", "install", "--python", python]
    else:
        # -I: neither the working folder nor the user's own packages have a say.
        _run([python, "-I", "-m", "ensurepip"], directory, "getting pip", progress)
        install = [python, "-I", "-m", "pip", "install", "--progress-bar", "off", "--no-warn-conflicts"]
    file = requirements_file([f"rknn-toolkit2=={TOOLKIT_VERSION}", *REQUIREMENTS], directory)
    wheels = None if source is None else source.folder.absolute()
    _run([*install, *only_these(file, index, wheels)], directory, "installing rknn-toolkit2", progress)
    if not uv:  # neither is needed any more, and pkg_resources of setuptools is slow to import
        _run([python, "-I", "-m", "pip", "uninstall", "-y", "setuptools", "pip"], directory, "removing pip", progress)
    for tests in (directory / "env").glob("lib/python3*/site-packages/onnx/backend/test/data"):
        shutil.rmtree(tests, ignore_errors=True)  # 57 MB of test models


def _prove(prove: Prove, directory: Path, progress: Progress) -> ToolkitPython:
    """Convert a small model, and only then say on disk that the environment is good.

    Where the aarch64 compiler cannot open the NPU nothing can be proven, nor is anything wrong with the environment (an
    image of a container is made without any device): it is kept, and proven by the next call that finds an NPU.
    """
    progress("converting a model of two nodes to prove that it works")
    python = str(private_python())
    version, unproven = TOOLKIT_VERSION, ""
    try:
        version = prove(python)
    except NpuNotOpened as error:
        unproven = str(error)
        progress(unproven)
    except ConvertError as error:
        raise InstallFailed(
            f"the new environment does not work: {error}. `ort-rknn toolkit install --force` makes it anew"
        ) from error
    content = {"version": version, "python": python, "requirements": REQUIREMENTS, "unproven": unproven}
    part = directory / "toolkit.json.part"
    part.unlink(missing_ok=True)
    write_own(part, json.dumps(content))
    part.replace(directory / "toolkit.json")
    return ToolkitPython(python, "private", version)


def install(
    progress: Progress = lambda _: None,
    *,
    prove: Prove,
    python: str | None = None,
    force: bool = False,
    use_uv: bool = True,
    wheels: Path | None = None,
    index: str | None = None,
    wait: float = 600.0,
) -> ToolkitPython:
    """Make the private environment, or finish one that was begun; nothing is done when it is there and proven.

    Args:
        progress: Called with a sentence or a line of pip or uv at a time.
        prove: Proves that the environment works; what it raises of :class:`ConvertError` is the failure's reason.
        python: The interpreter to build on; None: the first that fits.
        force: Begin anew.
        use_uv: Use uv where it is found, because it is quicker.
        wheels: A folder that ``toolkit download`` made; nothing is fetched from anywhere then.
        index: A mirror of the registry; what it delivers must have the hashes we know. The settings of pip and uv are
            not looked at.
        wait: Seconds to wait for another installer (600: a guess at a slow line).

    Raises:
        InstallFailed: With the reason and the cure.
    """
    directory = toolkit_directory()
    _make_room(directory)
    source = None
    if wheels is not None:
        progress(f"checking the wheels in {wheels}")
        source = read_wheelhouse(wheels, toolkit=TOOLKIT_VERSION)
    lock = directory / "install.lock"
    try:
        with held(lock, timeout=wait, waiting=lambda: progress("another installer is at work, waiting for it")):
            return _install_locked(directory, progress, prove, python, force, use_uv, source, index)
    except InstallFailed as error:
        with contextlib.suppress(OSError):
            failure_note().write_text(f"{error}\n", encoding="utf-8", errors="backslashreplace")
        raise
    except Timeout as error:
        raise InstallFailed(f"another installer has held {lock} for {wait:g} s. Try again later") from error
    except OSError as error:
        text = f"{error.strerror} (os error {error.errno})"
        raise _explain(text, directory, "making the environment") from error


def _install_locked(
    directory: Path,
    progress: Progress,
    prove: Prove,
    python: str | None,
    force: bool,
    use_uv: bool,
    source: Wheelhouse | None,
    index: str | None,
) -> ToolkitPython:
    done = marker() or {}
    current = done.get("version") == TOOLKIT_VERSION and done.get("requirements") == list(REQUIREMENTS)
    if current and not force and python is None:
        if done.get("unproven"):
            return _prove(prove, directory, progress)
        return ToolkitPython(str(private_python()), "private", TOOLKIT_VERSION)
    (directory / "toolkit.json").unlink(missing_ok=True)
    failure_note().unlink(missing_ok=True)
    if force:
        shutil.rmtree(directory / "env", ignore_errors=True)
    uv = find_uv() if use_uv else None
    _make_environment(uv, python, directory, progress, source)
    _fill(uv, directory, progress, source, index)
    return _prove(prove, directory, progress)
