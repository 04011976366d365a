"""Prints what is there and what is missing: ``python -m onnxruntime_ep_rknn``."""

import os
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from onnxruntime_ep_rknn import get_ep_name, get_library_path

_OLDEST, _BEST = (1, 23, 1), (1, 24, 0)
_RUNTIME = "ORT_RKNN_RUNTIME_LIBRARY"


def main() -> int:
    """Print a line for each part; gives 0 when a session can use the NPU."""
    try:
        version = metadata.version("onnxruntime-ep-rknn")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    print(f"onnxruntime-ep-rknn {version}")
    try:
        library = get_library_path()
    except FileNotFoundError as error:
        return _end("library", str(error))
    print(f"library             {library}")
    try:
        onnxruntime: Any = import_module("onnxruntime")
    except ImportError:
        return _end("onnxruntime", "not installed: pip install onnxruntime")
    found = onnxruntime.__version__
    print(f"onnxruntime         {found}{_about(found)}")
    if _numbers(found) < _OLDEST:
        return 1
    if os.environ.get(_RUNTIME):
        print(f"{_RUNTIME} = {os.environ[_RUNTIME]}")
    print(f"device tree         {_board()}")
    onnxruntime.set_default_logger_severity(1)  # the library says there why it sees no NPU
    try:
        onnxruntime.register_execution_provider_library("onnxruntime-ep-rknn", library)
    except Exception as error:
        return _end("register", str(error))
    onnxruntime.set_default_logger_severity(2)
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == get_ep_name()]
    for device in devices:
        facts = ", ".join(f"{key} {value}" for key, value in device.device.metadata.items())
        print(f"device              {device.device.type.name} of {device.device.vendor}: {facts or 'nothing known'}")
    if not devices:
        return _end("device", "none; the line of onnxruntime above that begins with 'no NPU can be used' says why")
    return 0


def _end(what: str, why: str) -> int:
    print(f"{what:20}{why}")
    return 1


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def _about(version: str) -> str:
    if _numbers(version) < _OLDEST:
        return ": too old, 1.23.1 is the oldest that runs compiled models with a plugin"
    return ": works; the NPU appears as the CPU's device before 1.24" if _numbers(version) < _BEST else ""


def _board() -> str:
    try:
        words = Path("/proc/device-tree/compatible").read_bytes()
    except OSError:
        return "none: this is no board, or a container that hides it"
    return ", ".join(word for word in words.decode("ascii", "replace").split("\0") if word)


if __name__ == "__main__":
    sys.exit(main())
