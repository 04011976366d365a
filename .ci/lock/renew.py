"""Writes the lock files beside it: every package of every environment, with the hashes the registry publishes.

`make lock` runs it. uv resolves, in an environment of its own; it asks the default registry, whatever mirrors or
folders this machine's settings name, because a wheel that was built elsewhere has another hash. Versions that stand in
a file already are taken anew, so that what comes out is the newest that pyproject.toml takes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / ".ci" / "lock"
TOOLS = ROOT / "build" / "lock"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
BUILD = ("cmake", "ninja", "scikit-build-core")
"""What compiles the native lanes: installed with the rest, so that no build fetches anything."""
NEW_AS_THEY_GET = ("numpy", "onnx", "protobuf", *BUILD)
"""Packages the suite with the oldest ones does not take old: old ones have no wheels for new Pythons."""
WHEEL_TOOLS = ("auditwheel", "build", "packaging", "wheel", "ziglang", *BUILD)
"""What makes wheels for both CPUs from one machine, and checks them."""
TESTED_WITH = ("hypothesis", "pytest", "pytest-timeout")
LIMIT = 600.0
"""Seconds for one resolution (a guess at a slow line; measured: up to 30)."""


def pyproject() -> dict[str, Any]:
    """The project's own settings."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(requirement: str) -> str:
    """The package a requirement is about."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def newest() -> list[str]:
    """What the project, its development and its demo need."""
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["convert"], *extras["dev"], *extras["demo"]]
    return list(dict.fromkeys(wanted))


def oldest() -> list[str]:
    """What the project and its suite need, at the oldest release with fixes that pyproject.toml takes."""
    project = pyproject()["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["convert"]]
    wanted = {name_of(line) for line in needed} | {*BUILD, *TESTED_WITH}
    chosen = [line for line in newest() if name_of(line) in wanted]
    return [
        line if name_of(line) in NEW_AS_THEY_GET else re.sub(r">=([0-9.]+)", r"==\1.*", line, count=1)
        for line in chosen
    ]


def documentation() -> list[str]:
    """What `make docs` needs; the packages themselves are read, not imported."""
    return list(pyproject()["project"]["optional-dependencies"]["docs"])


def programs() -> list[str]:
    """The unmodified programs of the tests and what they are installed beside."""
    from tests.helpers.example_programs import NEEDED, PROGRAMS

    needed = {package for program in PROGRAMS.values() for package in program.packages}
    return [*sorted(needed | {"pyinstaller"}), *NEEDED]


def _environment() -> dict[str, str]:
    """Environment variables without the settings that send pip and uv to another registry."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _uv(*words: str | Path, text: str = "") -> None:
    command = [TOOLS / "bin" / "uv", "--no-config", "--quiet", *words]
    subprocess.run(command, input=text, text=True, check=True, cwd=ROOT, env=_environment(), timeout=LIMIT)


def _install_uv() -> None:
    """Get the newest uv, in an environment of its own."""
    if not (TOOLS / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", TOOLS], check=True)
    command = [TOOLS / "bin" / "python", "-m", "pip", "install", "--quiet", "--upgrade", "uv"]
    subprocess.run(command, check=True, env=_environment(), timeout=LIMIT)


def _write(name: str, requirements: Iterable[str], *options: str) -> None:
    """Resolve the requirements into ``name``."""
    print(f"resolving lock/{name} ...", flush=True)
    options = ("--upgrade", "--no-annotate", "--custom-compile-command", "make lock", *options)
    _uv("pip", "compile", "-", "--output-file", LOCK / name, *options, text="\n".join(requirements))


def _write_toolkit() -> None:
    """Write the hashes of the toolkit's environment, whose releases stand in the installer."""
    from ort_rknn_converters.toolkit.setup import install, package_tools

    print("hashing the toolkit's environment ...", flush=True)
    wanted = [f"rknn-toolkit2=={install.TOOLKIT_VERSION}", *install.REQUIREMENTS]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.txt"
        options = (
            "--universal",
            "--python-version",
            "3.8",
            "--no-deps",
            "--generate-hashes",
            "--no-annotate",
            "--no-header",
        )
        _uv("pip", "compile", "-", "--output-file", found, *options, text="\n".join(wanted))
        text = re.sub(r"^([\w.-]+==[^ ;]+)[^\\\n]*", r"\1 ", found.read_text(encoding="utf-8"), flags=re.MULTILINE)
    head = (
        "# Every release the toolkit's environment is made of, with the hashes its registry publishes; written by"
        " `make lock`.\n"
    )
    package_tools.LOCK.write_text(head + text.replace("==", "==="), encoding="utf-8")


def _prove(name: str) -> None:
    """Resolve a lock file once more for every Python and CPU, from wheels alone; nothing is downloaded but metadata."""
    for python, machine in product(PYTHONS, MACHINES):
        print(f"trying lock/{name} on Python {python}, {machine} ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            target = ("--target", folder, "--python-version", python, "--python-platform", f"{machine}-manylinux_2_28")
            wheels = ("--only-binary", ":all:", "--require-hashes")
            _uv("pip", "install", "--dry-run", *target, *wheels, "--requirements", LOCK / name)


def main() -> None:
    """Write all of them."""
    from tests.aarch64.prepare import PYTHON, WHEELS

    _install_uv()
    universal = ("--universal", "--python-version", PYTHONS[0])
    _write("dev.txt", newest(), *universal, "--generate-hashes")
    _write("oldest.txt", oldest(), *universal, "--generate-hashes")
    _write("docs.txt", documentation(), *universal, "--generate-hashes")
    _write("wheels.txt", WHEEL_TOOLS, *universal, "--generate-hashes")
    _write("programs.txt", programs(), *universal, "--constraints", str(LOCK / "dev.txt"))
    _write(
        "ray.txt",
        [*pyproject()["project"]["optional-dependencies"]["ray"], "ray[serve]"],
        *universal,
        "--constraints",
        str(LOCK / "dev.txt"),
    )
    _write("ultralytics.txt", ["ultralytics"], *universal, "--constraints", str(LOCK / "dev.txt"))
    guest = ("--python-version", PYTHON, "--python-platform", "aarch64-manylinux_2_28")
    _write("aarch64.txt", WHEELS, *guest, "--no-deps", "--generate-hashes")
    _write_toolkit()
    for name in ("dev.txt", "oldest.txt", "wheels.txt", "docs.txt"):
        _prove(name)


if __name__ == "__main__":
    main()
