"""Whether the toolkit's compiler can start here: on aarch64 it opens the NPU even to compile, and crashes without one.

Seen with rknn-toolkit2 2.5.0 under emulation: it opens ``/dev/rknpu``, else ``/dev/dri/card0`` to ``card15``, never the
render node that inference uses; it asks for the driver's name, the hardware's and the driver's version, and submits
nothing. Where none opens it ends by SIGSEGV after "failed to open rknn device!". On x86-64 it opens nothing.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import sysconfig
from pathlib import Path

__all__ = ["LAST_WORDS", "NEVERTHELESS", "WITHOUT_NPU", "answering_library", "npu_obstacle", "without_npu"]

WITHOUT_NPU = "ORT_RKNN_TOOLKIT_WITHOUT_NPU"
"""Environment variable: ``1`` answers the compiler's few questions to the NPU in its own process."""

LAST_WORDS = "failed to open rknn device!"
"""What the compiler says before it crashes for want of an NPU."""

NEVERTHELESS = (
    f"compile on a PC and copy the result (`ort-rknn convert --on user@pc` does both), or set {WITHOUT_NPU}=1, which"
    " answers the compiler in the NPU's place (seen under emulation, not on a board)"
)
"""What helps without an NPU that opens."""

NOT_BUILT = (
    f"{WITHOUT_NPU} is set, and the library that answers in the NPU's place is not there: it comes with the wheel for"
    " aarch64, and with a build from source where there was a C compiler. Install the wheel"
)
_ASKING = ("aarch64", "arm64")
_CARDS = 16  # as many as the compiler tries
_DRIVER = "rknpu"
_DRM_IOCTL_VERSION = 0xC0406400
_GROUPS = "add the user to the group of that file (sudo usermod -aG video,render $USER, then log in again)"


class _DrmVersion(ctypes.Structure):
    """``struct drm_version`` of the kernel's interface, on 64 bits."""

    _fields_ = (
        ("numbers", ctypes.c_int * 3),
        ("name_len", ctypes.c_size_t),
        ("name", ctypes.c_void_p),
        ("date_len", ctypes.c_size_t),
        ("date", ctypes.c_void_p),
        ("desc_len", ctypes.c_size_t),
        ("desc", ctypes.c_void_p),
    )


def without_npu() -> bool:
    """Whether the user wants the compiler's questions answered in the NPU's place."""
    value = os.environ.get(WITHOUT_NPU, "").lower()
    return value not in ("", "0", "off", "no", "false")


def answering_library() -> str:
    """Path of the library that answers the compiler; empty where it is not wanted, not needed, or was not built."""
    if not without_npu() or platform.machine() not in _ASKING:
        return ""
    import ort_rknn_converters

    roots = [Path(path) for path in ort_rknn_converters.__path__]
    roots.append(Path(sysconfig.get_path("platlib")) / "ort_rknn_converters")
    found = (root / "toolkit" / "worker" / "npu_answers.so" for root in roots)
    return next((str(path) for path in found if path.exists()), "")


def npu_obstacle(root: str | Path = "/", machine: str | None = None) -> str:
    """Says why the toolkit's compiler would crash on this machine, with the cure; empty where nothing is known.

    Args:
        root: Where ``/dev`` is; tests give a made-up one.
        machine: The processor; default: this one's.
    """
    if (machine or platform.machine()) not in _ASKING:
        return ""
    if without_npu():
        return "" if answering_library() else NOT_BUILT
    base = Path(root) / "dev"
    nodes = [base / "rknpu", *(base / "dri" / f"card{number}" for number in range(_CARDS))]
    there = [node for node in nodes if os.path.lexists(node)]
    denied, foreign = [], []
    for node in there:
        try:
            opened = os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                denied.append(f"/{node.relative_to(root)}")
            continue
        try:
            driver = _driver_of(opened) if node.name != "rknpu" else _DRIVER
        finally:
            os.close(opened)
        if driver in ("", _DRIVER):  # who does not say its name may be it
            return ""
        foreign.append(f"/{node.relative_to(root)} is {driver}'s")
    begin = "its aarch64 compiler opens the NPU even to compile, and cannot here: "
    if denied:
        return f"{begin}no permission on {', '.join(denied)}. To cure it, {_GROUPS}; or {NEVERTHELESS}"
    found = (
        f"none of /dev/rknpu and /dev/dri/card* is the NPU's ({', '.join(foreign)})"
        if foreign
        else ("there is neither /dev/rknpu nor /dev/dri/card* (/dev/dri/renderD* alone is not enough)")
    )
    cure = (
        "start the container with --device /dev/dri (all of it)"
        if _in_container(Path(root))
        else "on a board, boot a kernel with the vendor's rknpu driver"
    )
    return f"{begin}{found}. To cure it, {cure}; or {NEVERTHELESS}"


def _in_container(root: Path) -> bool:
    return any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))


def _driver_of(opened: int) -> str:
    """The name of a DRM device's driver; empty where it does not answer."""
    room = ctypes.create_string_buffer(64)
    asked = _DrmVersion(name_len=len(room) - 1, name=ctypes.addressof(room))
    try:
        fcntl.ioctl(opened, _DRM_IOCTL_VERSION, asked)
    except OSError:
        return ""
    return room.value.decode(errors="replace")
