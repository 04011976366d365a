"""The board's side, read from its file system alone: SoC, kernel, driver, device nodes, runtime library.

Where that file system begins can be said, so that every line is tested on the recorded layouts of boards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ort_rknn.devices.library_name import ENVIRONMENT
from ort_rknn.devices.rknnrt.library import FOLDERS, NAMES, version_in
from ort_rknn.devices.soc import Soc, detect
from ort_rknn_conformance.doctor.findings import Finding

__all__ = ["board_findings"]

# The vendor asks for 0.9.2; users report cores 1 and 2 broken with 0.9.2 and 0.9.3, and 0.9.6 and newer good.
DRIVER_NEEDED, DRIVER_GOOD = (0, 9, 2), (0, 9, 6)
_BAD_KERNELS = ("6.1.141",)  # reported to break the NPU on some boards
_INSTALL = (
    "copy librknnrt.so from github.com/airockchip/rknn-toolkit2 (rknpu2/runtime/Linux/librknn_api/aarch64) to /usr/lib "
    f"or name it with {ENVIRONMENT[0]}"
)
_KERNEL = "install the board vendor's kernel image with rknpu 0.9.6 or newer (Rockchip's 5.10 or 6.1 tree)"


def board_findings(
    root: str | Path = "/", toolkit: str | None = None, library: str | None = None, machine: str = "aarch64"
) -> Iterator[Finding]:
    """Look at a board.

    Args:
        root: Where its file system is.
        toolkit: Version of the toolkit that compiles for it, if known: the runtime must not be older.
        library: Runtime library the user named.
        machine: The processor; only the SoC's line is given where it cannot be a Rockchip's.
    """
    base = Path(root)
    soc = detect(base)
    if soc.target is None and not machine.startswith(("aarch64", "arm")):
        yield Finding("SoC", "bad", f"a {machine} machine is no Rockchip board", "on a PC the simulator stands in")
        return
    yield _soc(soc)
    yield _container(soc)
    yield from _kernel(base)
    yield _driver(soc)
    yield _nodes(soc)
    yield from _runtime(base, soc, toolkit, library)


def _soc(soc: Soc) -> Finding:
    names = ", ".join(soc.compatible)
    if soc.target is not None:
        return Finding("SoC", "ok", f"{soc.target} (device tree: {names})")
    if soc.compatible:
        return Finding(
            "SoC",
            "bad",
            f"no SoC with a known NPU (device tree: {names})",
            "models run on the CPU here; an RK3588, RK3576, RK356x or RV1126B board has a usable NPU",
        )
    if soc.container:
        return Finding(
            "SoC",
            "bad",
            "unknown: this container hides the device tree",
            "start it with --security-opt systempaths=unconfined and --device /dev/dri, or set ORT_RKNN_TARGET",
        )
    return Finding(
        "SoC", "bad", "no device tree: this is no Rockchip board", "on other machines the simulator stands in"
    )


def _container(soc: Soc) -> Finding:
    if not soc.container:
        return Finding("container", "ok", "none")
    if soc.target is None or not soc.nodes:
        hidden = [what for what, gone in (("device tree", soc.target is None), ("NPU device", not soc.nodes)) if gone]
        return Finding(
            "container",
            "bad",
            f"yes; hidden from it: {', '.join(hidden)}",
            "docker run --device /dev/dri --security-opt systempaths=unconfined ...",
        )
    return Finding("container", "ok", "yes, with the device tree and the NPU device inside")


def _kernel(base: Path) -> Iterator[Finding]:
    try:
        release = (base / "proc/sys/kernel/osrelease").read_text().strip()
    except OSError:
        return
    if release.startswith(_BAD_KERNELS):
        yield Finding(
            "kernel", "note", f"{release}: users report that it breaks the NPU on some boards", "take another kernel"
        )
    else:
        yield Finding("kernel", "ok", release)


def _driver(soc: Soc) -> Finding:
    if soc.driver == "rocket":
        return Finding(
            "NPU driver",
            "bad",
            "rocket, mainline Linux's own: the vendor's runtime cannot use it",
            f"{_KERNEL}; mainline kernels have rocket only",
        )
    if soc.driver is None:
        cure = _KERNEL if soc.target is not None else ""
        return Finding("NPU driver", "bad", "none seen in the kernel", cure)
    if soc.driver_version is None:
        return Finding(
            "NPU driver",
            "note",
            "rknpu, version not readable",
            "sudo cat /sys/kernel/debug/rknpu/version (0.9.6 or newer is good)",
        )
    said = f"rknpu {soc.driver_version}"
    version = _numbers(soc.driver_version)
    if version < DRIVER_NEEDED:
        return Finding("NPU driver", "bad", f"{said}: the vendor asks for 0.9.2", _KERNEL)
    if version < DRIVER_GOOD:
        return Finding("NPU driver", "note", f"{said}: users report cores 1 and 2 broken before 0.9.6", _KERNEL)
    return Finding("NPU driver", "ok", said)


def _nodes(soc: Soc) -> Finding:
    if not soc.nodes:
        cure = "start the container with --device /dev/dri" if soc.container else _KERNEL
        return Finding("NPU device", "bad", "no device node", cure if soc.target or soc.container else "")
    if soc.denied:
        open_to_us = [node for node in soc.nodes if node not in soc.denied]
        return Finding(
            "NPU device",
            "note" if open_to_us else "bad",
            f"no permission on {', '.join(soc.denied)}"
            + (f"; {', '.join(open_to_us)} can be opened" if open_to_us else ""),
            "sudo usermod -aG render,video $USER, then log in again (in a container: --group-add the node's group)",
        )
    return Finding("NPU device", "ok", ", ".join(soc.nodes))


def _runtime(base: Path, soc: Soc, toolkit: str | None, library: str | None) -> Iterator[Finding]:
    topic = "runtime library"
    found = _libraries(base) if library is None else [library]
    if not found:
        yield Finding(topic, "bad", f"no {NAMES[0]}", _INSTALL if soc.target is not None else "")
        return
    files = {name: version_in(name if library is not None else base / name.lstrip("/")) for name in found}
    first, version = next(iter(files.items()))
    others = {name: said for name, said in files.items() if said != version}
    if version is None:
        yield Finding(topic, "bad", f"{first} is no librknnrt, or cannot be read", _INSTALL)
        return
    if toolkit is not None and _numbers(version)[:2] < _numbers(toolkit)[:2]:
        yield Finding(
            topic,
            "bad",
            f"{first} {version} is older than the toolkit ({toolkit}): 'Invalid RKNN model version' is what follows",
            _INSTALL,
        )
    else:
        yield Finding(topic, "ok", f"{first} {version}")
    if others:
        copies = ", ".join(f"{name} {said or '(unknown)'}" for name, said in others.items())
        yield Finding(
            "runtime copies", "note", f"also {copies}", f"remove what is not meant; {first} is taken, the first found"
        )


def _libraries(base: Path) -> list[str]:
    """Files by the usual names, in the order they are tried; links to one file count once."""
    found: dict[Path, str] = {}
    for name in NAMES:
        for folder in FOLDERS:
            path = base / folder.lstrip("/") / name
            if path.is_file():
                found.setdefault(path.resolve(), f"{folder}/{name}")
    return list(found.values())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
