"""Makes a board in a box in ``build/board``: a Debian for arm64 with Python and pip, a board's files, wheels.

Packages are unpacked, not installed (half a minute); nothing of the host is changed but for the packages that
``tests/aarch64/prepare.py`` names. Exit code 3: this machine cannot do it, and the last line says why.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # run as a program from a fresh checkout

from tests.aarch64 import prepare as arm64  # noqa: E402

BUILD = ROOT / "build" / "board"
QEMU = "/usr/bin/qemu-aarch64-static"
SUITES = {"bookworm": "3.11", "trixie": "3.13"}
OTHER_PYTHON = "opt/python3.11"
"""Folder of trixie's root with the Python of the release before, as an owner unpacks or builds one for the toolkit."""
DEBS = ("bash", "coreutils", "dash", "findutils", "grep", "libstdc++6", "python3-pip", "python3-venv", "sed")
RUN = (
    "click",
    "filelock",
    "flatbuffers",
    "markdown-it-py",
    "mdurl",
    "numpy",
    "onnxruntime",
    "packaging",
    "platformdirs",
)
RUN = (*RUN, "protobuf", "pygments", "rich")
CONVERT = ("ml-dtypes", "mpmath", "onnx", "onnx-ir", "sympy", "typing-extensions")
BINFMT = (
    r":ort_rknn_box:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    f":{QEMU}:F"
)
VERSION = (
    'const char ort_rknn_box[] __attribute__((used)) = "librknnrt version: 2.5.0 (emulated@2026-01-01T00:00:00)";\n'
)
CORES = os.cpu_count() or 1  # as many as threads can be put on
CPU = "".join(
    f"processor\t: {core}\nBogoMIPS\t: 48.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\n" for core in range(CORES)
)


def say(text: str) -> None:
    """Print at once."""
    print(f"board: {text}", flush=True)


def able() -> None:
    """Raise where no private binfmt_misc can be had (Linux 6.7 is the first), or no user namespace."""
    if not Path(QEMU).exists():
        raise arm64.Unable(f"there is no {QEMU} (Debian: apt-get install qemu-user-static)")
    script = (
        "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && printf '%s' \"$1\" >/proc/sys/fs/binfmt_misc/register"
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", BINFMT], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode:
        raise arm64.Unable(f"no private binfmt_misc (Linux 6.7 and user namespaces are needed): {done.stderr.strip()}")


def userland(suite: str) -> None:
    """Unpack the root file system of one Debian."""
    root = BUILD / suite
    say(f"unpacking Debian {suite} for arm64")
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("proc", "dev", "tmp", "etc", "sys", "home/rock", "home/nobody", "board"):
        (root / name).mkdir(parents=True)
    arm64.unpack_debs(BUILD / f"apt-{suite}", suite, DEBS, root)
    (root / "bin" / "sh").exists() or (root / "bin" / "sh").symlink_to("dash")
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nrock:x:1000:1000::/home/rock:/bin/bash\n")
    (root / "etc" / "group").write_text("root:x:0:\nrock:x:1000:\nvideo:x:44:\nrender:x:105:\n")
    certificates = sorted((root / "usr" / "share" / "ca-certificates").rglob("*.crt"))  # as update-ca-certificates does
    bundle = root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(b"".join(path.read_bytes() for path in certificates))
    if suite == "trixie":
        (root / OTHER_PYTHON).mkdir(parents=True)
        arm64.unpack_debs(BUILD / "apt-other", "bookworm", ("python3.11-venv",), root / OTHER_PYTHON)


def board(root: Path) -> None:
    """The files that are looked up first, as of a board with an RK3588; and those of a container that hides them."""
    library = BUILD / "librknnrt.so"
    native, emulator = ROOT / "ort_rknn" / "native", ROOT / "tests" / "emulator"
    marker = BUILD / "version.c"
    marker.write_text(VERSION)
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-pthread", f"-I{native}", f"-I{emulator}"]
    arm64.run(
        [arm64.COMPILER, *flags, "-o", library, *sorted(emulator.glob("*.c")), marker], "compiling the emulated runtime"
    )
    layouts = {
        "board": {
            "proc/device-tree/compatible": b"radxa,rock-5b\0rockchip,rk3588\0",
            "sys/module/rknpu/version": b"0.9.8\n",
        },
        "bare": {
            "proc/device-tree/compatible": b"radxa,rock-5b\0rockchip,rk3588\0",
            "sys/module/rknpu/version": b"0.9.8\n",
        },
        "container": {".dockerenv": b"", "sys/module/rknpu/version": b"0.9.8\n"},  # /sys/firmware is what Docker hides
    }
    for name, files in layouts.items():
        base = root / "layouts" / name
        shutil.rmtree(base, ignore_errors=True)
        cores = dict.fromkeys(
            ("sys/devices/system/cpu/possible", "sys/devices/system/cpu/present"), f"0-{CORES - 1}\n".encode()
        )
        nodes = ("dev/dri/card0", "dev/dri/card1", "dev/dri/renderD129") if name != "bare" else ()
        for file, content in {**files, **cores, "proc/cpuinfo": CPU.encode(), **dict.fromkeys(nodes, b"")}.items():
            (base / file).parent.mkdir(parents=True, exist_ok=True)
            (base / file).write_bytes(content)
        (base / "usr/lib").mkdir(parents=True)
        shutil.copy(library, base / "usr/lib/librknnrt.so")


def locked(names: tuple[str, ...], python: str) -> str:
    """The part of the lock that a Python needs of some packages."""
    from packaging.requirements import Requirement

    text = (ROOT / ".ci" / "lock" / "dev.txt").read_text(encoding="utf-8")
    blocks = re.findall(r"^[A-Za-z0-9._-]+==(?:.*\\\n)+.*$", text, re.MULTILINE)
    environment = {"python_version": python, "python_full_version": f"{python}.2", "platform_machine": "aarch64"}
    kept = []
    for block in blocks:
        first, _, hashes = block.partition("\\\n")
        wanted = Requirement(first.strip())
        if wanted.name in names and (wanted.marker is None or wanted.marker.evaluate(environment)):
            kept.append(f"{wanted.name}{wanted.specifier} \\\n{hashes}")
    return "\n".join(kept) + "\n"


def wheels(suite: str, wheel: Path) -> None:
    """What the package needs, from the registry by the lock's hashes, and its own wheel."""
    python, folder = SUITES[suite], BUILD / f"wheels-{suite}"
    say(f"fetching the wheels for Python {python}")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("ort_rknn-*.whl"):
        old.unlink()
    shutil.copy(wheel, folder)
    lock = BUILD / f"lock-{suite}.txt"
    lock.write_text(locked((*RUN, *CONVERT), python))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [f"--platform=manylinux_2_{minor}_aarch64" for minor in (28, 27, 17)] + [
        "--platform=manylinux2014_aarch64"
    ]
    command += [f"--python-version={python}", "--implementation=cp", "--only-binary=:all:", f"--dest={folder}"]
    arm64.run([*command, "--require-hashes", "-r", str(lock)], "fetching the wheels")


def main() -> int:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="the package's wheel for aarch64")
    parser.add_argument("--able", action="store_true", help="only say whether this machine can do it")
    parser.add_argument("--suite", choices=SUITES, action="append")
    parser.add_argument("--toolkit", action="store_true", help="fetch the vendor's toolkit, too (95 MB)")
    arguments = parser.parse_args()
    begun = time.monotonic()
    arm64.tools()
    able()
    if arguments.able:
        return 0
    if arguments.wheel is None:
        parser.error("--wheel is needed")
    BUILD.mkdir(parents=True, exist_ok=True)
    for suite in arguments.suite or ["bookworm"]:
        arm64.once(
            BUILD / f"{suite}.done", arm64.digest(arm64.MIRROR, DEBS, OTHER_PYTHON), lambda suite=suite: userland(suite)
        )
        wheels(suite, arguments.wheel)
    board(BUILD)
    if arguments.toolkit and not (BUILD / "toolkit" / "ort-rknn-toolkit.json").exists():
        say("fetching the vendor's toolkit for Python 3.11")
        command = ["-c", "from ort_rknn.cli import main; main()", "toolkit", "download", str(BUILD / "toolkit")]
        arm64.run([sys.executable, *command, "--python", "3.11"], "fetching the toolkit", dict(os.environ))
    say(f"ready in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (arm64.Unable, OSError, subprocess.TimeoutExpired) as reason:
        say(str(reason))
        sys.exit(arm64.UNABLE)
