"""Runs programs inside the emulated board that ``prepare.py`` makes: as an ordinary user, in namespaces of their own.

By hand: ``python tests/board/box.py --layout board bash``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "board"
SETUP = r"""
set -eu
root=$1 layout=$2 wheels=$3 toolkit=$4 home=$5 readonly=$6 hidden=$7 binfmt=$8
shift 8
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' "$binfmt" >/proc/sys/fs/binfmt_misc/register
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount -t tmpfs none "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind /dev/$node "$root/dev/$node"
done
mkdir "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs none "$root/tmp"
mkdir -p "$root/tmp/wheels" "$root/tmp/toolkit"
mount --bind "$wheels" "$root/tmp/wheels"
[ -z "$toolkit" ] || mount --bind "$toolkit" "$root/tmp/toolkit"
mount --bind "$layout" "$root/board"
mount --bind "$home" "$root/home/rock"
[ -z "$hidden" ] || mount --bind /dev/null "$root/$hidden"
[ -z "$readonly" ] || mount -o remount,bind,ro "$root"
exec unshare -U --map-user=1000 --map-group=1000 -R "$root" -w / "$@"
"""
"""Binds into the root what a program needs, registers qemu for this namespace only, and gives up being root."""


def inside(
    command: Sequence[str],
    *,
    layout: str = "board",
    suite: str = "bookworm",
    home: Path | None = None,
    readonly: bool = False,
    hidden: str = "",
    network: bool = False,
    env: dict[str, str] | None = None,
) -> list[str]:
    """The command line that runs a program in the box.

    Args:
        command: What to run there.
        layout: ``board`` (an RK3588 with its nodes), ``bare`` (without nodes) or ``container`` (no device tree).
        suite: Debian's release.
        home: The folder of the user ``rock``; default: one that stays between calls.
        readonly: Mount everything but ``/tmp`` and the home read-only.
        hidden: A file of the root that is made empty.
        network: Let it reach the network.
        env: Environment variables; a value of ``""`` takes one away.
    """
    from tests.board.prepare import BINFMT

    home = home or BUILD / f"home-{suite}"
    home.mkdir(parents=True, exist_ok=True)
    variables = {
        "HOME": "/home/rock",
        "USER": "rock",
        "PATH": "/home/rock/v/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "QEMU_LD_PREFIX": "/board",
        "QEMU_CPU": "cortex-a76",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/tmp/wheels",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **(env or {}),
    }
    toolkit = BUILD / "toolkit"
    given = [
        str(BUILD / suite),
        str(BUILD / "layouts" / layout),
        str(BUILD / f"wheels-{suite}"),
        str(toolkit) if toolkit.exists() else "",
        str(home),
        "yes" if readonly else "",
        hidden,
        BINFMT,
    ]
    spaces = "-Urm" if network else "-Urmn"
    words = [f"{name}={value}" for name, value in variables.items() if value]
    return ["unshare", spaces, "sh", "-c", SETUP, "sh", *given, "/usr/bin/env", "-i", *words, *command]


def run(command: Sequence[str], *, timeout: float = 600.0, **how: object) -> subprocess.CompletedProcess[str]:
    """Run a program in the box; both streams come back as one text."""
    return subprocess.run(
        inside(command, **how),  # type: ignore[arg-type]
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", default="board")
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--network", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    line = inside(
        arguments.command or ["bash"], layout=arguments.layout, suite=arguments.suite, network=arguments.network
    )
    os.execvp(line[0], line)
