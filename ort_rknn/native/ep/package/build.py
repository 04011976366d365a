"""Builds the distribution onnxruntime-ep-rknn: an sdist, and wheels for both CPUs where the compiler for them is there.

    python ort_rknn/native/ep/package/build.py --out dist           # the sdist, and a wheel for this machine
    python ort_rknn/native/ep/package/build.py --out dist --both    # wheels for aarch64 and x86-64, by Zig's compiler

Zig's compiler (``pip install ziglang``) links for whatever C library it is told to: the wheels run from glibc 2.27 on,
which Debian 10, Ubuntu 18.04 and everything newer have. A plain compiler links for the machine it runs on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1]
ROOT = NATIVE.parents[1]
SHARED = (
    "CMakeLists.txt",
    "blocks.c",
    "blocks.h",
    "interleave.c",
    "interleave_half.c",
    "rknn_abi.h",
    "segment.c",
    "segment.h",
)
GLIBC = "2.27"
_BUILD_S = 900.0  # seconds for a build that takes one minute here; a guess for slow machines
CPUS = ("aarch64", "x86_64")


def stage(folder: Path) -> Path:
    """Put the project together: this folder's files, the C sources, the licence."""
    project = folder / "project"
    shutil.copytree(HERE, project, ignore=shutil.ignore_patterns("build.py", "__pycache__", "*.so"))
    (project / "native" / "ep").mkdir(parents=True)
    for name in SHARED:
        shutil.copy(NATIVE / name, project / "native")
    for path in (*NATIVE.glob("ep/*.c"), *NATIVE.glob("ep/*.h")):
        shutil.copy(path, project / "native" / "ep")
    shutil.copy(ROOT / "LICENSE", project)
    return project


def build(project: Path, out: Path, kind: str, env: dict[str, str] | None = None) -> Path:
    """Build an ``sdist`` or a ``wheel``; gives its path."""
    code = (
        "import sys; from scikit_build_core.build import build_sdist, build_wheel; "
        f"print(build_{kind}(sys.argv[1]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        cwd=project,
        env=os.environ | (env or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=_BUILD_S,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return out / done.stderr.strip().splitlines()[-1]


def zig_wheel(project: Path, out: Path, cpu: str, folder: Path) -> Path:
    """A wheel for another machine's C library."""
    compiler = folder / f"cc-{cpu}"
    compiler.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang cc -target {cpu}-linux-gnu.{GLIBC} "$@"\n')
    compiler.chmod(0o755)
    made = folder / cpu
    made.mkdir()
    system = f"-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR={cpu}"
    env = {"CC": str(compiler), "CMAKE_ARGS": system, "_PYTHON_HOST_PLATFORM": f"linux-{cpu}"}
    wheel = build(project, made, "wheel", env)
    tag = f"manylinux_{GLIBC.replace('.', '_')}_{cpu}"
    command = [sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", tag, str(wheel)]
    name = (
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_BUILD_S)
        .stdout.strip()
        .splitlines()[-1]
    )
    return Path(shutil.copy(made / name, out))


def main() -> None:
    """Build what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--both", action="store_true", help="wheels for both CPUs; needs ziglang and wheel")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        project = stage(Path(name))
        print(build(project, out, "sdist"))
        if arguments.both:
            for cpu in CPUS:
                print(zig_wheel(project, out, cpu, Path(name)))
        else:
            print(build(project, out, "wheel"))


if __name__ == "__main__":
    main()
