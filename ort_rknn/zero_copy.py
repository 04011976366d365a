"""A session's door to zero copy: :meth:`ort_rknn.session.InferenceSession.bind_buffers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ort_rknn.devices.base import AUTO, core_mask
from ort_rknn.errors import DeviceError
from ort_rknn.program import NpuPart, Program

if TYPE_CHECKING:
    from ort_rknn.devices.rknnrt_buffers import BoundContext

__all__ = ["open_bound"]


def open_bound(
    engine: Any, core: int | None, fds: Mapping[str, int] | None, share: BoundContext | None
) -> BoundContext:
    """Open one more context of a session's program, with buffers for inputs and outputs.

    Args:
        engine: The session's engine; the bound context keeps it, and so the device.
        core: The core; ``None`` lets the driver choose.
        fds: Value name -> file descriptor of a dma-buf.
        share: Another one of the same session whose weights are shared.

    Raises:
        DeviceError: The session has no single NPU part, its device has no buffers, or it refuses.
    """
    program = getattr(engine, "program", None)
    if not isinstance(program, Program) or len(program.parts) != 1 or not isinstance(program.parts[0], NpuPart):
        raise DeviceError(
            "zero copy needs a model that is one NPU part from its inputs to its outputs; "
            "print(session.plan) shows what this one is"
        )
    part, device = program.parts[0], program.device
    if device is None or device.name != "npu":
        raise DeviceError(f"only device 'npu' has buffers; this session's is {getattr(device, 'name', None)!r}")
    mask = AUTO if core is None else core_mask([core])
    context: Any = device.open(part.code, mask, None if share is None else share.context)
    try:
        bound: BoundContext = context.bind_buffers(fds)
    except BaseException:
        context.close()
        raise
    bound.keep = engine
    return bound
