"""Checks before the runtime is asked for anything: masks, targets, types it does not know."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from ort_rknn.devices.base import ALL_CORES, AUTO, Blob, SegmentCode
from ort_rknn.devices.soc import Soc
from ort_rknn.errors import DeviceError

__all__ = ["check_target", "check_types", "clamped_mask", "cores_for", "facts_of", "numbers", "same_code"]


BOOL_RUNTIME = (2,)
"""Runtimes before this one do not know BOOL outputs (1.6.0 was asked: "output dtype is undefine!", runs fail)."""

_MOST_TRAILER = 1 << 24  # bytes of the JSON at a file's end; the vendor writes some hundred a value

UNMATCHED = -13


def clamped_mask(mask: int, cores: int, target: str | None) -> int:
    """A mask the SoC takes: all its cores for the vendor's "all"; one core has no mask but AUTO.

    Raises:
        DeviceError: It names a core that does not exist.
    """
    everything = (1 << cores) - 1
    if mask == ALL_CORES:
        mask = everything  # 0xffff itself is refused (1.6.0)
    if mask & ~everything:
        missing = (mask & ~everything).bit_length() - 1
        raise DeviceError(
            f"core {missing} does not exist: this NPU ({target or 'unknown SoC'}) has {cores} core(s)",
            call="rknn_set_core_mask",
        )
    if mask & (mask - 1) and mask & (mask + 1):
        taken = ", ".join(
            hex(one) for one in (*(1 << core for core in range(cores)), *((2 << core) - 1 for core in range(1, cores)))
        )
        raise DeviceError(
            f"core mask {mask:#x} does not exist: this NPU ({target or 'unknown SoC'}) takes {taken}, or 0 for any",
            call="rknn_set_core_mask",
        )
    return AUTO if cores == 1 else mask


def cores_for(code: SegmentCode, cores: int, soc: Soc) -> int:
    """Cores that code may use: those of the SoC it was compiled for, where this machine does not say what it is."""
    from ort_rknn_converters.errors import UnknownTarget
    from ort_rknn_converters.targets import find_target

    try:
        return cores if soc.target or not code.target else min(cores, find_target(code.target).cores)
    except UnknownTarget:
        return cores


def check_target(code: SegmentCode, soc: Soc) -> None:
    """Refuse code for another NPU generation: the runtime's own message would not name it.

    Raises:
        DeviceError: The code is not for this board.
    """
    from ort_rknn_converters.errors import UnknownTarget
    from ort_rknn_converters.targets import find_target

    if not code.target or not soc.target:
        return
    try:
        made_for, here = find_target(code.target), find_target(soc.target)
    except UnknownTarget:
        return
    if made_for.family != here.family:
        raise DeviceError(
            f"segment {code.name} is compiled for {made_for.name}, this board is {here.name}: compile it for "
            f"target {here.name!r}",
            call="rknn_init",
            code=UNMATCHED,
            code_name="RKNN_ERR_TARGET_PLATFORM_UNMATCH",
        )


def check_types(code: SegmentCode, runtime: str) -> None:
    """Refuse a segment whose types the runtime does not know: its attributes would be wrong and each run would fail.

    Raises:
        DeviceError: The runtime is too old for it.
    """
    version = numbers(runtime)
    names = [spec.name for spec in code.outputs if spec.dtype == np.bool_]
    if names and version and version < BOOL_RUNTIME:
        raise DeviceError(
            f"segment {code.name}: output {names[0]!r} is BOOL, which librknnrt {runtime.split(' ')[0]} does not know; "
            "install librknnrt 2.3.2 or newer",
            call="rknn_run",
        )


def same_code(one: Blob | None, other: Blob | None) -> bool:
    """Whether two blobs hold the same compiled code."""
    if one is None or other is None:
        return False
    if one.path is not None and other.path is not None:
        first, second = Path(one.path), Path(other.path)
        try:
            if first.samefile(second):
                return True  # without reading them: code has hundreds of megabytes
            if first.stat().st_size != second.stat().st_size:
                return False
        except OSError:
            return False
    return one == other


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers; empty where it is none."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()


def facts_of(blob: Blob) -> dict[str, str] | None:
    """Format, toolkit version and target of a ``.rknn``, from its header and trailer."""
    try:
        from ort_rknn_converters.onnx_file.protobuf_wire import opened
        from ort_rknn_converters.util.plain_data import parse_json

        with opened(blob.path if blob.path is not None else blob.read()) as data:
            version, length = struct.unpack_from("<QQ", data, 8)
            (trailer,) = struct.unpack_from("<Q", data, 64 + length)
            said = parse_json(data[72 + length : 72 + length + trailer], most=_MOST_TRAILER)
        return {
            "format": str(version),
            "version": str(said["version"]),
            "target": ", ".join(map(str, said["target_platform"])),
        }
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return None
