"""Which device serves a session, and if none does, why and what to do."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ort_rknn.devices.base import Device

__all__ = ["Choice", "board_target", "choose", "npu_problem"]

_COMPATIBLE = Path("/proc/device-tree/compatible")


@dataclass(frozen=True)
class Choice:
    """The device for the NPU parts.

    Attributes:
        device: ``None`` when the model stays on the CPU.
        target: SoC to compile for.
        reason: Why there is no device; empty when there is one.
    """

    device: Device | None
    target: str
    reason: str = ""


def choose(
    wish: str | Device | Callable[[], Device],
    *,
    target: str | None = None,
    simulator_cores: int | None = None,
    simulator_latency_ms: float = 0.0,
) -> Choice:
    """Find the device a session asked for.

    Args:
        wish: ``auto``, ``npu``, ``simulator``, ``toolkit`` or ``cpu``; or a device, or a function that makes one.
        target: SoC to compile for; default: the board's own, else the table's default.
        simulator_cores: Pretend cores; default: as many as the SoC has.
        simulator_latency_ms: Time one inference takes on a pretend core, in milliseconds.
    """
    from ort_rknn_converters.targets import DEFAULT_TARGET, find_target

    target = target or board_target() or DEFAULT_TARGET
    if not isinstance(wish, str):
        device: Any = wish
        # A class or function has no open() to call on an instance: make the instance.
        return Choice(device if isinstance(device, Device) and not isinstance(device, type) else device(), target)
    if wish == "simulator":
        from ort_rknn.devices.simulator import SimulatorDevice

        cores = simulator_cores or find_target(target).cores
        return Choice(SimulatorDevice(cores=cores, latency_s=simulator_latency_ms / 1000), target)
    if wish == "toolkit":
        from ort_rknn.devices.toolkit import ToolkitDevice

        return Choice(ToolkitDevice(), target)
    if wish == "cpu":
        return Choice(None, target, "the CPU was asked for (device='cpu')")
    problem = npu_problem()
    return Choice(None, target, problem or "the NPU is not served by this version")


def npu_problem() -> str | None:
    """Why no NPU can be used on this machine, with what to do; ``None`` when one can."""
    if sys.platform != "linux" or platform.machine() != "aarch64":
        return (
            f"this machine ({platform.machine()} {sys.platform}) has no Rockchip NPU; "
            "set ORT_RKNN_DEVICE=simulator to run as the NPU would"
        )
    soc = board_target()
    if soc is None:
        return (
            f"{_COMPATIBLE} names no SoC with an NPU; run on a Rockchip board, "
            "or set ORT_RKNN_DEVICE=simulator to run as the NPU would"
        )
    return (
        f"this version of ort_rknn does not drive the {soc}'s NPU itself yet; "
        "set ORT_RKNN_DEVICE=simulator to run as the NPU would"
    )


def board_target(compatible: Path = _COMPATIBLE) -> str | None:
    """The SoC this machine is, as the device tree names it; ``None`` off Rockchip boards."""
    from ort_rknn_converters.errors import UnknownTarget
    from ort_rknn_converters.targets import find_target

    try:
        names = compatible.read_bytes().decode("ascii", "replace").split("\0")
    except OSError:
        return None
    for name in reversed(names):
        vendor, _, soc = name.partition(",")
        if vendor == "rockchip":
            try:
                return find_target(soc).name
            except UnknownTarget:
                continue
    return None
