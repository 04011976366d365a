"""Describes this machine: the SoC by its device tree, the NPU driver in the kernel, and what stands in the way."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import is_there, read_said

__all__ = ["OUT_OF_TREE", "VARIABLE", "Soc", "detect", "named_target"]

VARIABLE = "ORT_RKNN_TARGET"
"""Environment variable: the SoC to compile for, and the machine's own where no device tree names it."""

OUT_OF_TREE = (
    "build the vendor's driver as a module for it (github.com/w568w/rknpu-module; seen by its author on an RK3566 with "
    "kernel 6.19 and librknnrt 2.3.2), with rocket kept from loading"
)
"""The second cure for a kernel with mainline's driver only."""


_TREES = ("proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible")
_NODES = ("dev/dri/renderD129", "dev/dri/renderD128", "dev/rknpu", "dev/accel/accel0")
_VERSIONS = ("sys/module/rknpu/version", "sys/kernel/debug/rknpu/version", "proc/debug/rknpu/version")
_ROCKET = ("sys/module/rocket", "sys/bus/platform/drivers/rocket")
_RKNPU = ("sys/module/rknpu", "sys/bus/platform/drivers/RKNPU", "sys/kernel/debug/rknpu", "dev/rknpu")
_CONTAINERS = (
    ".dockerenv",
    "run/.containerenv",  # Podman
    "run/secrets/kubernetes.io",
    "var/run/secrets/kubernetes.io",
    "run/host/container-manager",  # systemd-nspawn
    "dev/.lxc-boot-id",
)


@frozen
class Soc:
    """Facts found about the machine.

    Attributes:
        target: The toolkit's name of the SoC, e.g. ``rk3588``; ``None`` off boards with an NPU.
        named: Whether the user said which SoC it is, because no device tree says so.
        compatible: The device tree's own names, most special first.
        driver: ``rknpu`` (the vendor's, which librknnrt needs), ``rocket`` (mainline Linux), or ``None`` if not seen.
        driver_version: E.g. ``0.9.8``, where the kernel tells.
        container: Whether this looks like the inside of a container.
        nodes: Device nodes of the NPU that exist here.
        denied: Those of them this user may not open.
        linked: Where ``/dev/rknpu`` leads if it is a link into ``/dev/dri``; empty if it is not.
        misnamed: Name that the user gave in the place of a device tree, if no SoC is known by it; else empty.
    """

    target: str | None
    compatible: tuple[str, ...] = ()
    driver: str | None = None
    driver_version: str | None = None
    container: bool = False
    nodes: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    linked: str = ""
    named: bool = False
    misnamed: str = ""

    @property
    def problem(self) -> str | None:
        """Reason why librknnrt cannot work here, with the cure; ``None`` when nothing speaks against it."""
        if self.target is None:
            if self.misnamed:
                return f"ORT_RKNN_TARGET or the option target says {self.misnamed!r}, and {_no_such_soc()}"
            if self.compatible:
                return f"the device tree names no SoC with an NPU that is known here ({', '.join(self.compatible)})"
            if self.container:
                return (
                    "this container hides the device tree, so the SoC is not known; start it with "
                    "--security-opt systempaths=unconfined and --device /dev/dri, or set ORT_RKNN_TARGET"
                )
            return (
                "this is no Rockchip board (there is no device tree; where it is one all the same, ORT_RKNN_TARGET"
                " names the SoC)"
            )
        if self.driver == "rocket":
            return (
                f"the kernel drives the {self.target}'s NPU with mainline Linux's 'rocket', which librknnrt cannot "
                f"use; boot a kernel with the vendor's rknpu driver (0.9.6 or newer), or {OUT_OF_TREE}"
            )
        if self.linked:
            return (
                f"/dev/rknpu is a link to {self.linked}, which librknnrt takes for the older driver's device and "
                "crashes on ('Meet unsupported target type: 0xffffffff'); remove the link (sudo rm /dev/rknpu)"
            )
        if self.denied and len(self.denied) == len(self.nodes):
            return (
                f"no permission on {' and '.join(self.denied)}; add the user to the groups 'render' and 'video', "
                "or run as root"
            )
        if self.container and not self.nodes:
            return "this container has no NPU device node; start it with --device /dev/dri"
        if self.named and not self.nodes:
            return (
                f"ORT_RKNN_TARGET or the option target says {self.target}, and there is no NPU device node"
                " (/dev/dri/renderD*, /dev/rknpu); boot a kernel with the vendor's rknpu driver"
            )
        return None


def named_target() -> str | None:
    """The SoC that the user's environment names, if it names one."""
    return os.environ.get(VARIABLE) or None


def detect(root: str | Path = "/", named: str | None = None) -> Soc:
    """Look at a machine.

    Args:
        root: Where its file system is; tests give a made-up one.
        named: The SoC as the user has it; believed where no device tree says otherwise: a container hides it, firmware
            has none, or it names one of Rockchip's that is not known here.
    """
    base = Path(root)
    compatible = _compatible(base)
    target = _target(compatible)
    asked = named if target is None and _open_to_names(compatible) else None
    said = _known(asked)
    nodes = tuple(f"/{node}" for node in _NODES if is_there(base / node))
    return Soc(
        target=target or said,
        compatible=compatible,
        named=said is not None,
        misnamed=asked if asked and said is None else "",
        driver=_driver(base),
        driver_version=_driver_version(base),
        container=_in_container(base),
        nodes=nodes,
        denied=tuple(node for node in nodes if not _may_open(base / node[1:])),
        linked=_linked(base / "dev/rknpu"),
    )


def _compatible(base: Path) -> tuple[str, ...]:
    for name in _TREES:
        if words := tuple(filter(None, read_said(base / name).split("\0"))):
            return words
    return ()


def _target(compatible: Iterable[str]) -> str | None:
    """The SoC among names such as ``rockchip,rk3588s-evb`` and ``rockchip,rk3588``; the last one is the plain SoC."""
    from ort_rknn_converters.targets import TARGETS

    names = {alias: target.name for target in TARGETS.values() for alias in (target.name, *target.aliases)}
    for word in reversed(list(compatible)):
        vendor, _, model = word.partition(",")
        if vendor == "rockchip" and model.lower() in names:
            return names[model.lower()]
    return None


def _open_to_names(compatible: Iterable[str]) -> bool:
    """Whether the device tree leaves room for a name: there is none, or it is one of Rockchip's own."""
    words = list(compatible)
    return not words or any(word.startswith("rockchip,") for word in words)


def _known(name: str | None) -> str | None:
    from ort_rknn_converters.errors import UnknownTarget
    from ort_rknn_converters.targets import find_target

    try:
        return find_target(name).name if name else None
    except UnknownTarget:  # whoever compiles for it says so
        return None


def _no_such_soc() -> str:
    from ort_rknn_converters.targets import TARGETS

    return f"no SoC of that name is known; known are {', '.join(TARGETS)}"


def _driver(base: Path) -> str | None:
    if any(is_there(base / name) for name in _ROCKET) or _accel_driver(base) == "rocket":
        return "rocket"
    if any(is_there(base / name) for name in _RKNPU):
        return "rknpu"
    return None


def _accel_driver(base: Path) -> str | None:
    text = read_said(base / "sys/class/accel/accel0/device/uevent")
    found = re.search(r"^DRIVER=(\S+)", text, re.MULTILINE)
    return found.group(1) if found else None


def _driver_version(base: Path) -> str | None:
    for name in _VERSIONS:
        found = re.search(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}", read_said(base / name))
        if found:
            return found.group()
    return None


def _in_container(base: Path) -> bool:
    return any(is_there(base / name) for name in _CONTAINERS)


def _linked(node: Path) -> str:
    """Target of the node if it is a link to a DRM device."""
    try:
        target = node.readlink().name
    except OSError:  # no link, or nothing
        return ""
    return f"/dev/dri/{target}" if target.startswith(("renderD", "card")) else ""


def _may_open(node: Path) -> bool:
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))  # a pipe may stand there
        return True
    except PermissionError:
        return False
    except OSError:  # busy, or not really a device: not a matter of permission
        return True
