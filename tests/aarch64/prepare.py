"""Makes a small aarch64 world in ``build/aarch64`` for qemu: Python, rknn-toolkit-lite2, the emulated runtime.

Nothing of the host is changed but for two packages (qemu and a cross compiler) where they are missing and this is root.
What is there already is not made again. Exit code 3: this machine cannot do it, and the last line says why.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "aarch64"
PREFIX = BUILD / "prefix"
SITE = PREFIX / "usr/lib/python3/dist-packages"

COMPILER = "aarch64-linux-gnu-gcc"
TOOLS = {
    "qemu-aarch64-static": "qemu-user-static",
    COMPILER: "gcc-aarch64-linux-gnu",
}
HEADERS = Path("/usr/aarch64-linux-gnu/include/stdio.h")
MIRROR = os.environ.get("ORT_RKNN_DEBIAN_MIRROR", "http://deb.debian.org/debian")
SUITE = "bookworm"  # its Python is 3.11, which every rknn-toolkit-lite2 has a wheel for
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBS = ("python3.11", "libstdc++6")
PYTHON = "3.11"
LOCK = ROOT / ".ci" / "lock" / "aarch64.txt"
WHEELS = (  # `make lock` writes them there with their hashes
    "rknn-toolkit-lite2==2.5.0",
    "numpy==2.2.6",
    "psutil==7.0.0",
    "ruamel.yaml==0.18.10",
    "setuptools==80.9.0",  # the vendor's package imports pkg_resources
    "pytest==8.3.5",
    "pytest-timeout==2.3.1",
    "iniconfig==2.1.0",
    "packaging==25.0",
    "pluggy==1.5.0",
)
UNABLE = 3


class Unable(Exception):
    """This machine cannot run the tests."""


def say(text: str) -> None:
    print(f"aarch64: {text}", flush=True)


def run(command: Sequence[str | Path], why: str, env: dict[str, str] | None = None) -> None:
    """Run a program; its output is shown only when it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, check=False, timeout=600)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise Unable(f"{why} failed ({command[0]} ended with {done.returncode}):\n{tail}")


def tools() -> None:
    """qemu and the cross compiler, from the distribution."""
    packages = [package for program, package in TOOLS.items() if not shutil.which(program)]
    packages += [] if HEADERS.exists() else ["libc6-dev-arm64-cross"]
    packages += [] if KEYRING.exists() else ["debian-archive-keyring"]
    if not shutil.which("apt-get"):
        raise Unable("there is no apt-get, which fetches the aarch64 Python")
    if not packages:
        return
    if os.geteuid():
        raise Unable(f"missing: {' '.join(packages)}; install them with apt-get, or run this as root")
    say(f"installing {' '.join(packages)}")
    quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    run(["apt-get", "update", "-qq"], "fetching the lists of packages", quiet)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], "installing them", quiet)


def once(stamp: Path, key: str, make: Callable[[], None]) -> None:
    """Do ``make`` unless it was done with this key."""
    if not stamp.exists() or stamp.read_text() != key:
        stamp.unlink(missing_ok=True)
        make()
        stamp.write_text(key)


def debian() -> None:
    """Unpack the aarch64 Python with all it needs."""
    say(f"fetching Python {PYTHON} for aarch64 from {MIRROR} {SUITE}")
    for stamp in BUILD.glob("*.done"):
        stamp.unlink()
    shutil.rmtree(PREFIX, ignore_errors=True)
    PREFIX.mkdir(parents=True)
    unpack_debs(BUILD / "apt", SUITE, DEBS, PREFIX)


def unpack_debs(apt: Path, suite: str, debs: Sequence[str], root: Path) -> None:
    """Fetch arm64 packages with all they need, and unpack them. apt works in a folder of its own, as elsewhere."""
    shutil.rmtree(apt, ignore_errors=True)
    for folder in ("lists/partial", "archives/partial", "etc", "empty"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    source = f"deb [arch=arm64 signed-by={KEYRING}] {MIRROR} {suite} main\n"
    (apt / "etc" / "sources.list").write_text(source)
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::State": str(apt),
        "Dir::State::lists": str(apt / "lists"),
        "Dir::State::status": str(apt / "status"),
        "Dir::Cache": str(apt),
        "Dir::Cache::archives": str(apt / "archives"),
        "Dir::Etc::sourcelist": str(apt / "etc" / "sources.list"),
        "Dir::Etc::sourceparts": str(apt / "empty"),
        "Dir::Etc::preferencesparts": str(apt / "empty"),
        "Dir::Log": str(apt),
    }
    (apt / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    env = dict(os.environ, APT_CONFIG=str(apt / "apt.conf"))
    run(["apt-get", "update", "-qq"], "fetching Debian's list of packages", env)
    run(["apt-get", "install", "-y", "-qq", "--download-only", *debs], "fetching the packages", env)
    for archive in sorted((apt / "archives").glob("*.deb")):
        # Directories that are links in the root stay links: /bin is one on a merged system.
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as packed:
            run_from(packed.stdout, ["tar", "-x", "--keep-directory-symlink", "-C", root], f"unpacking {archive.name}")
    shutil.rmtree(apt)


def run_from(given: IO[bytes] | None, command: Sequence[str | Path], why: str) -> None:
    """Run a program that reads what another writes."""
    done = subprocess.run(list(map(str, command)), stdin=given, capture_output=True, check=False, timeout=600)
    if done.returncode:
        raise Unable(f"{why} failed ({command[0]} ended with {done.returncode}): {done.stderr.decode()[-500:]}")


def wheels() -> None:
    """The Python packages, the vendor's among them."""
    say(f"fetching {', '.join(WHEELS[:2])} and pytest for aarch64")
    shutil.rmtree(SITE, ignore_errors=True)
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--platform=manylinux2014_aarch64", "--platform=manylinux_2_28_aarch64", "--implementation=cp"]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--python-platform=aarch64-manylinux_2_28"]
    else:
        raise Unable("there is neither pip nor uv")
    command += [f"--python-version={PYTHON}", "--only-binary=:all:", "--no-deps", f"--target={SITE}"]
    command += ["--require-hashes", "-r", str(LOCK)]
    run(command, "fetching the wheels")
    shutil.rmtree(SITE / "bin", ignore_errors=True)


def libraries() -> None:
    """The emulated runtime where the vendor's package looks for it, and the native lanes."""
    say("compiling the emulated librknnrt.so and the native lanes")
    native = ROOT / "ort_rknn" / "native"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread", f"-I{native}"]
    for folder, library in (
        (ROOT / "tests" / "emulator", PREFIX / "usr/lib/librknnrt.so"),
        (native, BUILD / "lanes.so"),
    ):
        run([COMPILER, *flags, "-o", library, *sorted(folder.glob("*.c"))], f"compiling {library.name}")


def board() -> None:
    """The files that make a guest believe it runs on an RK3588, and the command that starts its Python."""
    tree = PREFIX / "proc/device-tree/compatible"
    tree.parent.mkdir(parents=True, exist_ok=True)
    tree.write_bytes(b"radxa,rock-5b\0rockchip,rk3588\0")
    node = PREFIX / "dev/dri/renderD129"  # demanded by the vendor's package inside containers
    node.parent.mkdir(parents=True, exist_ok=True)
    node.touch()
    command = BUILD / "python"
    command.write_text(
        "#!/bin/sh\n# aarch64 Python under qemu; every absolute path is looked up in the prefix first.\n"
        f'ORT_RKNN_NATIVE_LIBRARY="{BUILD}/lanes.so" ORT_RKNN_TESTS_PREFIX="{PREFIX}" CC={COMPILER} \\\n'
        f'    exec qemu-aarch64-static -L "{PREFIX}" "{PREFIX}/usr/bin/python{PYTHON}" "$@"\n'
    )
    command.chmod(0o755)


def digest(*texts: object, files: Sequence[Path] = ()) -> str:
    """A key of everything that decides a result."""
    key = hashlib.sha256(repr(texts).encode())
    for file in files:
        key.update(file.read_bytes())
    return key.hexdigest()


def main() -> int:
    """Make what is missing."""
    begun = time.monotonic()
    if platform.system() != "Linux":
        raise Unable("qemu-user needs Linux")
    tools()
    BUILD.mkdir(parents=True, exist_ok=True)
    base = digest(MIRROR, SUITE, DEBS)
    once(BUILD / "debian.done", base, debian)
    once(BUILD / "wheels.done", digest(base, files=[LOCK]), wheels)
    folders = (ROOT / "tests" / "emulator", ROOT / "ort_rknn" / "native")
    sources = [file for folder in folders for pattern in ("*.c", "*.h") for file in sorted(folder.glob(pattern))]
    once(BUILD / "libraries.done", digest(base, files=sources), libraries)
    board()
    say(f"ready in {time.monotonic() - begun:.0f} s: {BUILD / 'python'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Unable, OSError, subprocess.TimeoutExpired) as reason:
        say(str(reason))
        sys.exit(UNABLE)
