"""Float inputs handed over as the float16 the NPU keeps: half the bytes, where the runtime takes them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

from ort_rknn.devices.rknnrt.abi import Input
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, error_name
from ort_rknn.devices.rknnrt.tensor_layout import IoPlan
from ort_rknn_converters.util.log import logger

__all__ = ["HalfInputs"]


class HalfInputs:
    """Whether a device's runtime takes float16 for what ONNX calls float32; asked when the first such input is met.

    The vendor's interface names float16 among the types of an input. It was not seen on a board, so the first context
    is handed zeros, and a runtime that refuses them gets float32 from then on.

    Args:
        wanted: ``False``: float32 always.
    """

    def __init__(self, wanted: bool) -> None:
        self._taken = None if wanted else False
        self._lock = threading.Lock()

    def plan(self, library: RuntimeLibrary, handle: int, make: Callable[[bool], IoPlan]) -> IoPlan:
        """The plan of a context's inputs and outputs.

        Args:
            library: The runtime.
            handle: The context, which nobody uses yet.
            make: Makes the plan, with or without float16.
        """
        with self._lock:
            io = make(self._taken is not False)
            if self._taken is None and any(plan.half for plan in io.inputs):
                code = _try(library, handle, io)
                self._taken = not code
                if code:
                    logger().info("the runtime refuses float16 inputs (%s): it gets float32", error_name(code))
                    io = make(False)
            return io


def _try(library: RuntimeLibrary, handle: int, io: IoPlan) -> int:
    """Hand over zeros; gives the runtime's code."""
    given = (Input * len(io.inputs))()
    zeros = [ctypes.create_string_buffer(max(1, plan.size)) for plan in io.inputs]
    for item, plan, room in zip(given, io.inputs, zeros, strict=True):
        item.index, item.size, item.type, item.fmt = plan.index, plan.size, plan.type, plan.fmt
        item.buf = ctypes.addressof(room)
    code: int = library.function("rknn_inputs_set")(handle, len(given), given)
    return code
