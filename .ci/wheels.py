"""Builds what a release consists of, from one machine: wheels for both CPUs, the sdist, and checks of each.

    make wheels                  # dist/*.whl for x86-64 and aarch64, checked and installed on every Python that is here
    make release                 # the same, and the sdist, built once more without a compiler, and the notes

Zig's compiler (``ziglang`` of the registry) links for whatever CPU and C library it is told to: the wheels run from
glibc 2.17 on, which is manylinux2014. A wheel is refused where a library in it is for another CPU than its name says.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CPUS = ("x86_64", "aarch64")
GLIBC = "2.17"
POLICY = "manylinux2014"
ASKED_FOR = ("manylinux_2_28", POLICY)
"""Wheels pip is asked for when it looks for another machine's: each name stands for itself, not for older ones."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
"""The number at byte 18 of an ELF file, and the CPU."""
LIBRARIES = ("ort_rknn/native/lanes.so", "ort_rknn/native/libonnxruntime_ep_rknn.so")
NOT_OURS = ("onnxruntime", "onnxruntime.libs", "numpy", "numpy.libs", "pip", "setuptools", "_distutils_hack", "sympy")
NOT_OURS = (*NOT_OURS, "mpmath", "coloredlogs", "humanfriendly")
"""Folders that are not counted as ours; the last four come with onnxruntime 1.23, the last one for Python 3.10."""
WITHOUT_COMPILER = "built without a compiler"
LIMIT = 900.0
"""Seconds for one step (a guess; measured: up to 40 on an idle machine)."""
SMOKE = """
import importlib.util, sys
from importlib.metadata import version
import numpy as np
import onnxruntime
import ort_rknn as ort
from ort_rknn.devices.rknnrt.native_calls import native_library
from ort_rknn.examples import EDGES, EDGES_COMPILED
for name in sys.argv[2:]:
    assert importlib.util.find_spec(name) is None, f"{name} came along"
image = np.random.default_rng(0).random((1, 3, 128, 128), np.float32)
session = ort.InferenceSession(EDGES_COMPILED)
(got,) = session.run(None, {"image": image})
(want,) = onnxruntime.InferenceSession(EDGES).run(None, {"image": image})
assert np.allclose(got, want, atol=1e-3), abs(got - want).max()
lanes = "native lanes" if native_library() else "no native lanes"
assert lanes == sys.argv[1], lanes
print(f"{lanes}; a compiled model opens, {session.get_providers()[0]}")
session.close()
"""


def say(text: str) -> None:
    """Print at once: these steps take a while."""
    print(f"wheels: {text}", flush=True)


def run(command: Sequence[str | Path], cwd: Path = ROOT, **variables: str) -> str:
    """Run a program and give what it prints; its output is shown only when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise SystemExit(f"{' '.join(map(str, command[:6]))} ended with {done.returncode}:\n{tail}")
    return done.stdout


def build_wheel(cpu: str, out: Path) -> Path:
    """A wheel for one CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compiler = folder / "cc"
        # Zig takes "-z nodelete" apart from "-Wl,"; the C library's version is part of the target's name.
        compiler.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang cc -target {cpu}-linux-gnu.{GLIBC} "$@"\n')
        compiler.chmod(0o755)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "made"]
        system = f"-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR={cpu}"
        run(
            [*command, "--config-setting=build-dir=" + str(folder / "build")],
            CC=str(compiler),
            CMAKE_ARGS=system,
            _PYTHON_HOST_PLATFORM=f"{POLICY}-{cpu}",
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        )
        (wheel,) = (folder / "made").glob("*.whl")
        return Path(shutil.copy(wheel, out))


def check_wheel(wheel: Path, cpu: str) -> None:
    """Refuse a wheel that does not hold what its name says, or that needs a newer system than it says."""
    if not wheel.name.endswith(f"-py3-none-{POLICY}_{cpu}.whl"):
        raise SystemExit(f"{wheel.name} is no py3-none-{POLICY}_{cpu} wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        missing = [name for name in LIBRARIES if name not in names]
        if missing:
            raise SystemExit(f"{wheel.name} lacks {', '.join(missing)}: it was built without a compiler")
        for name in (name for name in names if name.endswith(".so")):
            machine = int.from_bytes(archive.read(name)[18:20], "little")
            found = ELF_MACHINES.get(machine, f"machine {machine}")
            if found != cpu:
                raise SystemExit(f"{name} in {wheel.name} is for {found}")
    said = run([sys.executable, "-m", "auditwheel", "show", wheel])
    if f"{POLICY}_{cpu}" not in said and f"manylinux_{GLIBC.replace('.', '_')}_{cpu}" not in said:
        raise SystemExit(f"auditwheel does not take {wheel.name} for {POLICY}:\n{said}")
    say(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, libraries for {cpu}, auditwheel agrees with {POLICY}")


def interpreters() -> dict[str, str]:
    """The Pythons that are here, of those the package takes."""
    found = {}
    for version in PYTHONS:
        names = [f"python{version}", *map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))]
        for name in names:
            path = shutil.which(name)
            code = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
            if path and _says(path, code) == version:
                found[version] = path
                break
    return found


def _says(path: str, code: str) -> str:
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip()


def size_of(folder: Path, *names: str) -> float:
    """Megabytes of all files below a folder, but for the packages named."""
    return (
        sum(
            file.lstat().st_size
            for file in folder.rglob("*")
            if file.is_file() and not any(part in names for part in file.relative_to(folder).parts)
        )
        / 1e6
    )


def try_install(what: Path, python: str, version: str, how: str = "", **variables: str) -> None:
    """Install into a clean environment, run a compiled model there, and say what it weighs and took."""
    lanes = how != WITHOUT_COMPILER
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([python, "-m", "venv", folder / "env"])
        inside = folder / "env" / "bin" / "python"
        begun = time.monotonic()
        run([inside, "-m", "pip", "install", "--quiet", what], cwd=folder, **variables)
        took = time.monotonic() - begun
        packages = next((folder / "env" / "lib").glob("python3*/site-packages"))
        own = size_of(packages, *NOT_OURS)
        wanted = "native lanes" if lanes else "no native lanes"
        said = run([inside, "-c", SMOKE, wanted, "onnx", "onnx_ir"], cwd=folder)
        version_line = run([folder / "env" / "bin" / "ort-rknn", "--version"], cwd=folder).strip()
        say(
            f"Python {version}, {what.name}{how and ', ' + how}: installed in {took:.0f} s, {size_of(packages):.0f} MB,"
            f" {own:.0f} MB of it above onnxruntime, numpy and pip, bytecode included; {version_line};"
            f" {said.strip().splitlines()[-1]}"
        )


def try_resolution(wheel: Path, cpu: str) -> None:
    """Ask the registry for all that a wheel for another CPU needs, for every Python, and install nothing."""
    say(f"{wheel.name}: asking the registry for what it needs")
    asked = [f"--platform={policy}_{cpu}" for policy in ASKED_FOR]
    for version in PYTHONS:
        for extra in ("", "[convert]"):
            command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", *asked]
            command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}", "--target=nowhere"]
            run([*command, f"ort-rknn{extra} @ {wheel.as_uri()}"])
    say(f"{wheel.name}: what it needs has wheels for {cpu} and Python {', '.join(PYTHONS)}, with [convert] and without")


def without_compiler(folder: Path) -> str:
    """A PATH on which no compiler is found."""
    for tool in ("sh", "env", "uname", "ldd"):
        if path := shutil.which(tool):
            (folder / tool).symlink_to(path)
    return str(folder)


def notes(version: str) -> str:
    """What CHANGELOG.md says of a version."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(version)}\b.*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None or not found.group(1).strip():
        raise SystemExit(f"CHANGELOG.md has no section '## {version}': write it first")
    return found.group(1).strip() + "\n"


def version_here() -> str:
    """The version in pyproject.toml."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found.group(1)


def main() -> None:
    """Build and check what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--cpu", choices=CPUS, action="append", help="only this one")
    parser.add_argument("--release", action="store_true", help="the sdist, too, tried without a compiler; the notes")
    parser.add_argument("--no-install", action="store_true", help="build and check, but install nothing")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    version = version_here()
    text = notes(version) if arguments.release else ""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    made = {}
    for cpu in arguments.cpu or CPUS:
        begun = time.monotonic()
        made[cpu] = build_wheel(cpu, out)
        check_wheel(made[cpu], cpu)
        say(f"built for {cpu} in {time.monotonic() - begun:.0f} s")
    here = interpreters()
    if missing := [one for one in PYTHONS if one not in here]:
        say(f"not installed on Python {', '.join(missing)}: not on this machine")
    native = made.get(platform.machine())
    for one, python in here.items() if native and not arguments.no_install else ():
        try_install(native, python, one)
    for cpu, wheel in made.items() if not arguments.no_install else ():
        if wheel != native:
            try_resolution(wheel, cpu)
    if arguments.release:
        run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out])
        (sdist,) = out.glob("*.tar.gz")
        newest = max(here, key=lambda one: tuple(map(int, one.split("."))), default=None)
        if newest is not None and not arguments.no_install:
            python = os.path.realpath(_says(here[newest], "import sys; print(sys.executable)"))
            try_install(sdist, python, newest, "built by the compiler here")
            with tempfile.TemporaryDirectory() as name:
                path = without_compiler(Path(name))
                try_install(sdist, python, newest, WITHOUT_COMPILER, PATH=path, CC="", HOME=name)
        (out / f"release-notes-{version}.md").write_text(text, encoding="utf-8")
        say(f"release {version}: {', '.join(sorted(file.name for file in out.iterdir()))}")
    say("done")


if __name__ == "__main__":
    main()
