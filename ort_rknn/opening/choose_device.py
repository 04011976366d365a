"""Chooses the device that serves a session, or says why there is none and what to do."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ort_rknn.devices.settings import DeviceOptions
from ort_rknn.devices.soc import detect, named_target
from ort_rknn.errors import DeviceUnavailable, RknnError
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.devices.base import Device

__all__ = ["Choice", "DeviceOptions", "choose", "npu_problem"]

_NO_BOARDS = frozenset({"x86_64", "AMD64", "i686"})
_ADVICE = "set ORT_RKNN_DEVICE=simulator to run as the NPU would"


@frozen
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


def choose(wish: str | Device | Callable[[], Device], options: DeviceOptions | None = None) -> Choice:
    """Find the device a session asked for.

    Args:
        wish: ``auto``, ``npu``, ``lite``, ``simulator``, ``toolkit`` or ``cpu``; or a device, or a function that
            makes one.
        options: What else was said.
    """
    from ort_rknn_converters.targets import DEFAULT_TARGET, find_target

    options = options or DeviceOptions()
    if not isinstance(wish, str):
        from ort_rknn.devices.base import Device

        given: Any = wish
        try:
            device = given if isinstance(given, Device) and not isinstance(given, type) else given()
        except DeviceUnavailable as error:
            return Choice(None, options.target or DEFAULT_TARGET, str(error))
        return Choice(device, options.target or getattr(device, "target", None) or DEFAULT_TARGET)
    named = options.target or named_target()
    target = named or detect().target or DEFAULT_TARGET
    if wish == "simulator":
        from ort_rknn.devices.simulator import SimulatorDevice

        cores = options.simulator_cores or find_target(target).cores
        return Choice(SimulatorDevice(cores, options.simulator_latency_ms / 1000, target), target)
    if wish == "toolkit":
        from ort_rknn.devices.toolkit import ToolkitDevice

        return Choice(ToolkitDevice(), target)
    if wish == "cpu":
        return Choice(None, target, "the CPU was asked for (device='cpu')")
    from ort_rknn.devices.library_name import named_library

    try:
        if not named_library(options.runtime_library):
            if platform.machine() in _NO_BOARDS:
                raise DeviceUnavailable(
                    f"no NPU can be used: this is a {platform.machine()} machine, no Rockchip board"
                )
            if wish != "lite" and (
                problem := detect(named=named).problem
            ):  # asked here: the vendor's interface is a long import
                raise DeviceUnavailable(f"no NPU can be used: {problem}")
        if wish == "lite":
            from ort_rknn.devices.rknnrt.lite_device import LiteDevice

            lite = LiteDevice(target=named)
            return Choice(lite, lite.target)
        from ort_rknn.devices.rknnrt.device import NpuDevice

        npu = NpuDevice(options)
    except RknnError as error:
        return Choice(None, target, f"{error}; {_ADVICE}")
    return Choice(npu, npu.target or target)


def npu_problem(library: str | None = None) -> str | None:
    """Reason why no NPU can be used on this machine, with what to do; ``None`` when one can.

    Args:
        library: Path of the vendor's runtime; default: what the environment names, else the usual places.
    """
    return _npu_problem(library or os.environ.get("ORT_RKNN_RUNTIME_LIBRARY", ""))


@lru_cache(maxsize=4)
def _npu_problem(library: str) -> str | None:
    return choose("npu", DeviceOptions(runtime_library=library or None)).reason or None
