"""File trees of boards and containers as they are found in the field, made under a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

RUNTIME = "usr/lib/librknnrt.so"


def runtime(version: str) -> bytes:
    """What a search for the version finds in a librknnrt."""
    return b"\x7fELF" + bytes(64) + f"librknnrt version: {version} (c949ad889d@2024-11-07T11:35:33)".encode() + bytes(8)


def tree(root: Path, compatible: tuple[str, ...] = (), files: Mapping[str, str | bytes] | None = None) -> Path:
    """Make it; a value of ``->path`` is a link."""
    wanted: dict[str, str | bytes] = dict(files or {})
    if compatible:
        wanted["proc/device-tree/compatible"] = b"".join(word.encode() + b"\0" for word in compatible)
    for name, content in wanted.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


# Radxa's Debian on a Rock 5B: vendor kernel 6.1, driver as a DRM device, runtime with its usual link.
ROCK5B: Mapping[str, str | bytes] = {
    "proc/sys/kernel/osrelease": "6.1.84-8-rk2410-nocsf\n",
    "sys/module/rknpu/version": "0.9.8\n",
    "dev/dri/renderD128": "",
    "dev/dri/renderD129": "",
    RUNTIME: runtime("2.5.0"),
    "usr/lib/librknnrt.so.2": "->librknnrt.so",
}
ROCK5B_NAMES = ("radxa,rock-5b", "rockchip,rk3588")
