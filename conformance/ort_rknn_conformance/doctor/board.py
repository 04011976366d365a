"""The board's side, read from its file system alone: SoC, kernel, driver, device nodes, runtime library.

Where that file system begins can be said, so that every line is tested on the recorded layouts of boards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ort_rknn.devices.soc import OUT_OF_TREE, VARIABLE, Soc, detect
from ort_rknn_conformance.doctor.findings import Finding
from ort_rknn_conformance.doctor.runtime_files import numbers, runtime_findings
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.util.own_files import read_said

__all__ = ["board_findings"]

# The vendor asks for 0.9.2; owners report cores 1 and 2 broken with 0.9.2 and 0.9.3, and 0.9.6 and newer good. On one
# board 0.9.2 worked with librknnrt 1.6 and not with 2.3.2.
DRIVER_NEEDED, DRIVER_GOOD = (0, 9, 2), (0, 9, 6)
_TOO_NEW_FOR_0_9_2 = (2, 3, 2)
_DOMAIN_BYTES = 4 << 30  # what the NPU's memory unit addresses at a time: 32 bits
_BAD_KERNELS = ("6.1.141",)  # reported to break the NPU on some boards
_KERNEL = "install the board vendor's kernel image with rknpu 0.9.6 or newer (Rockchip's 5.10 or 6.1 tree)"


def board_findings(
    root: str | Path = "/",
    toolkit: str | None = None,
    library: str | None = None,
    machine: str = "aarch64",
    *,
    named: str | None = None,
) -> Iterator[Finding]:
    """Look at a board.

    Args:
        root: Where its file system is.
        toolkit: Version of the toolkit that compiles for it, if known: the runtime must not be older.
        library: Runtime library the user named.
        machine: The processor; only the SoC's line is given where it cannot be a Rockchip's.
        named: The SoC that the user's environment names.
    """
    base = Path(root)
    soc = detect(base, named)
    if (soc.target is None or soc.named) and not machine.startswith(("aarch64", "arm")):
        yield Finding("SoC", "bad", f"a {machine} machine is no Rockchip board", "on a PC the simulator stands in")
        return
    yield _soc(soc)
    yield _container(soc)
    yield from _kernel(base)
    yield _driver(soc)
    yield _nodes(soc)
    runtime = list(runtime_findings(base, soc, toolkit, library, machine))
    yield from runtime
    yield from _driver_and_runtime(soc, runtime[0].said)
    yield from _memory(base, soc)


def _soc(soc: Soc) -> Finding:
    names = ", ".join(soc.compatible)
    if soc.named:
        tree = f"the device tree names {names}" if names else "the device tree is hidden, or there is none"
        return Finding("SoC", "ok", f"{soc.target}, as {VARIABLE} says ({tree})")
    if soc.target is not None:
        return Finding("SoC", "ok", f"{soc.target} (device tree: {names})")
    if soc.misnamed:
        return Finding("SoC", "bad", soc.problem or "", f"set {VARIABLE} to one of these")
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
        "SoC",
        "bad",
        "no device tree: this is no Rockchip board",
        f"on other machines the simulator stands in; where it is one all the same, set {VARIABLE}",
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
    inside = "the NPU device inside" if soc.named else "the device tree and the NPU device inside"
    return Finding("container", "ok", f"yes, with {inside}")


def _kernel(base: Path) -> Iterator[Finding]:
    release = read_said(base / "proc/sys/kernel/osrelease").strip()
    if not release:
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
            f"{_KERNEL}; or stay on this one and {OUT_OF_TREE}",
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
    version = numbers(soc.driver_version)
    if version < DRIVER_NEEDED:
        return Finding("NPU driver", "bad", f"{said}: the vendor asks for 0.9.2", _KERNEL)
    if version < DRIVER_GOOD and (soc.target is None or find_target(soc.target).cores > 1):
        return Finding(
            "NPU driver",
            "note",
            f"{said}: with 0.9.2 and 0.9.3 owners' cores 1 and 2 fail ('failed to submit'); 0.9.6 cured it",
            f"{_KERNEL}; until then keep to core 0: the option schedule=0",
        )
    if version < DRIVER_GOOD:
        return Finding("NPU driver", "note", f"{said}: owners saw 'failed to submit' before 0.9.6", _KERNEL)
    return Finding("NPU driver", "ok", said)


def _driver_and_runtime(soc: Soc, runtime: str) -> Iterator[Finding]:
    """Names the pair that is known not to work together."""
    found = re.search(r"(\d+\.\d+\.\d+)", runtime)
    if soc.driver_version is None or found is None or numbers(soc.driver_version) != DRIVER_NEEDED:
        return
    if numbers(found.group()) >= _TOO_NEW_FOR_0_9_2:
        yield Finding(
            "driver and runtime",
            "note",
            f"rknpu 0.9.2 with librknnrt {found.group()}: on an owner's board this pair failed, and 1.6.0 worked",
            f"{_KERNEL}, or take librknnrt 1.6.0",
        )


def _memory(base: Path, soc: Soc) -> Iterator[Finding]:
    """Says where the NPU reaches less memory than the board has."""
    found = re.search(r"^MemTotal:\s+(\d{1,15}) kB", read_said(base / "proc/meminfo"), re.MULTILINE)
    if soc.target is None or found is None or int(found.group(1)) << 10 <= _DOMAIN_BYTES:
        return
    yield Finding(
        "NPU memory",
        "note",
        f"{(int(found.group(1)) << 10) / 1e9:.0f} GB in the board, of which the NPU addresses 4 GB at a time (one "
        "memory domain): owners of 16 and 32 GB boards saw models fail to load beyond, and a buffer of 1.4 GB refused",
        "keep what all programs hold on the NPU together below 4 GB: close sessions that are not needed",
    )


def _nodes(soc: Soc) -> Finding:
    if soc.linked:
        return Finding(
            "NPU device",
            "bad",
            f"/dev/rknpu is a link to {soc.linked}: librknnrt opens it first, speaks the other driver's language to it "
            "('Meet unsupported target type: 0xffffffff') and crashes",
            "sudo rm /dev/rknpu, and the udev rule that makes it: the runtime finds /dev/dri by itself",
        )
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
