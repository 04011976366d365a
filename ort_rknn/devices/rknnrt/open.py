"""Opens contexts: by path or bytes, on their cores, with the shapes and types the runtime answers for."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_rknn.devices.base import AUTO, SegmentCode
from ort_rknn.devices.rknnrt.abi import (
    NUMPY_OF,
    Flag,
    Format,
    InitExtend,
    InOutNum,
    Input,
    Query,
    SdkVersion,
    TensorAttr,
)
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, error_name, failure
from ort_rknn.devices.rknnrt.tensor_layout import IoPlan, is_quantized, matched, runtime_shape
from ort_rknn.devices.settings import PRIORITIES, NpuSettings
from ort_rknn.errors import DeviceError
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.devices.base import Blob

__all__ = [
    "CoreMasks",
    "HalfInputs",
    "check_counts",
    "choose_shapes",
    "holds_shapes",
    "in_sets",
    "init",
    "init_flags",
    "io_types",
    "query",
    "query_attrs",
    "query_versions",
    "size_of",
]


_OTHER_WAY = (-1, -5)
"""RKNN_ERR_FAIL and PARAM_INVALID: what a runtime may say that knows only paths, or only bytes."""


def init(library: RuntimeLibrary, blob: Blob, flags: int, lender: int = 0) -> tuple[int, int]:
    """``rknn_init``, by path where there is one: then nobody keeps a copy of the file. If that fails, the other way.

    Args:
        library: The runtime.
        blob: The compiled code.
        flags: Of ``rknn_init``.
        lender: Context whose weights are to be shared; 0: none.

    Returns:
        The runtime's first code, or 0; and the new context.
    """
    flags |= Flag.SHARE_WEIGHT_MEM if lender else 0
    handle, extend = ctypes.c_uint64(), InitExtend(ctx=lender)
    open_with = library.function("rknn_init")

    def by_path(path: str) -> int:
        code: int = open_with(ctypes.byref(handle), os.fsencode(path), 0, flags, ctypes.byref(extend))
        return code

    def by_bytes(data: bytes) -> int:
        code: int = open_with(ctypes.byref(handle), data, len(data), flags, ctypes.byref(extend))
        return code

    path = blob.path
    if path is not None:
        code = by_path(path)
        if code and blob.path not in (None, path):  # it was removed meanwhile, and is held open
            code = by_path(blob.path or path)
        again = by_bytes(blob.read()) if code in _OTHER_WAY else code
    else:
        data = blob.read()
        code = by_bytes(data)
        again = _by_file(data, by_path) if code in _OTHER_WAY else code
    return code if again else 0, handle.value


def holds_shapes(code: str | bytes) -> bool:
    """Whether compiled code was made for sets of input shapes, of which one must be chosen before anything else.

    The file says so: most questions to the runtime would be the mistake already.

    Args:
        code: Its path, or its bytes.

    Raises:
        OSError: It cannot be read.
    """
    from ort_rknn_converters.rknn_format.reader import is_dynamic

    return is_dynamic(code)


def in_sets(blob: Blob) -> bool:
    """Whether compiled code holds sets of shapes; not where it cannot be read, which ``rknn_init`` will say."""
    try:
        return holds_shapes(blob.path if blob.path is not None else blob.read())
    except OSError:
        return False


def size_of(blob: Blob) -> int:
    """Bytes of compiled code; 0 where it cannot be read."""
    try:
        return len(blob.read()) if blob.path is None else Path(blob.path).stat().st_size
    except OSError:
        return 0


def _by_file(data: bytes, by_path: Callable[[str], int]) -> int:
    """Open a copy of the bytes in memory by a path that only this process has."""
    with os.fdopen(os.memfd_create("rknn"), "wb") as file:
        file.write(data)
        file.flush()
        return by_path(f"/proc/self/fd/{file.fileno()}")


class CoreMasks:
    """Puts contexts on their cores. Where the runtime refuses the first mask it is given, the driver chooses the cores.

    Chips with one core have no masks (-13), and so have runtimes that know only such chips.
    """

    def __init__(self) -> None:
        self._taken: bool | None = None

    def put(self, library: RuntimeLibrary, handle: int, mask: int) -> int:
        """Set a context's mask; gives the one in effect.

        Raises:
            DeviceError: It is refused, and another was taken.
        """
        if mask == AUTO or self._taken is False:
            return AUTO
        code = library.function("rknn_set_core_mask")(handle, mask)
        if code and self._taken:
            raise failure("rknn_set_core_mask", code, f"Core mask {mask:#x}")
        self._taken = not code
        if code:
            name = error_name(code)
            logger().warning("the runtime takes no core masks (%s for %#x): the driver chooses the cores", name, mask)
            return AUTO
        return mask


MOST = 4096
"""Inputs or outputs of a model; more is a runtime's mistake. A guess."""


def query(library: RuntimeLibrary, handle: int, command: Query, info: Any) -> Any:
    """Ask the runtime; gives ``info`` back, filled in.

    Raises:
        DeviceError: It does not answer this.
    """
    code = library.function("rknn_query")(handle, command, ctypes.byref(info), ctypes.sizeof(info))
    if code:
        raise failure(f"rknn_query({command.name})", code)
    return info


def query_attrs(library: RuntimeLibrary, handle: int, command: Query, count: int) -> list[TensorAttr]:
    """All attributes that one command gives."""
    return [query(library, handle, command, TensorAttr(index=index)) for index in range(count)]


def query_versions(library: RuntimeLibrary, handle: int) -> tuple[str, str]:
    """Versions of the runtime and of the kernel driver, e.g. ``("2.3.2 (...)", "0.9.8")``.

    Raises:
        DeviceError: It does not say.
    """
    answer = query(library, handle, Query.SDK_VERSION, SdkVersion())
    return answer.api_version.decode(errors="replace"), answer.drv_version.decode(errors="replace")


def check_counts(code: SegmentCode, n_input: int, n_output: int) -> None:
    """Compare how many inputs and outputs a context says it has with the segment, before they are asked for one by one.

    Raises:
        DeviceError: They are not as many.
    """
    for kind, found, wanted in (("input", n_input, len(code.inputs)), ("output", n_output, len(code.outputs))):
        if found != wanted:
            raise DeviceError(
                f"segment {code.name}: its compiled code has {found} {kind}(s), the segment has {wanted}",
                call="rknn_query",
            )


def io_types(library: RuntimeLibrary, handle: int) -> dict[str, str]:
    """The types of a context's inputs and outputs by name, as callers see them (real numbers are float32).

    Raises:
        DeviceError: The runtime does not answer.
    """
    counts = query(library, handle, Query.IN_OUT_NUM, InOutNum())
    if max(counts.n_input, counts.n_output) > MOST:
        raise DeviceError(f"the runtime says that a model has {counts.n_input} inputs and {counts.n_output} outputs")
    attrs = query_attrs(library, handle, Query.INPUT_ATTR, counts.n_input)
    attrs += query_attrs(library, handle, Query.OUTPUT_ATTR, counts.n_output)
    return {attr.name.decode(errors="replace"): _type(attr) for attr in attrs}


def _type(attr: TensorAttr) -> str:
    stored = NUMPY_OF.get(int(attr.type))
    if stored is None:
        return "unknown"
    return "float32" if stored.name == "float16" or is_quantized(attr, stored) else stored.name


def choose_shapes(
    library: RuntimeLibrary, handle: int, code: SegmentCode, attrs: Sequence[TensorAttr]
) -> list[TensorAttr]:
    """Take one of the sets of input shapes the code was compiled for; gives the inputs as they are then.

    Raises:
        DeviceError: There is no such set.
    """
    for spec, attr in matched(code, "input", code.inputs, attrs):
        shape = runtime_shape(spec.shape)
        if len(shape) == 4 and attr.fmt == Format.NHWC:
            shape = (shape[0], shape[2], shape[3], shape[1])
        attr.n_dims = len(shape)
        attr.dims[: len(shape)] = shape
    result = library.function("rknn_set_input_shapes")(handle, len(attrs), (TensorAttr * len(attrs))(*attrs))
    if result:
        shapes = ", ".join(f"{spec.name}:{'x'.join(map(str, spec.shape))}" for spec in code.inputs)
        raise failure("rknn_set_input_shapes", result, f"Segment {code.name} was not compiled for {shapes}")
    return query_attrs(library, handle, Query.CURRENT_INPUT_ATTR, len(attrs))


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


_PRIORITY_FLAGS = dict(zip(PRIORITIES, (Flag(0), Flag(0), Flag.PRIOR_MEDIUM, Flag.PRIOR_LOW), strict=True))


def init_flags(settings: NpuSettings) -> int:
    """Returns the flags of ``rknn_init`` that the settings ask for."""
    wanted = {
        Flag.COLLECT_PERF: settings.collect_perf,
        Flag.ENABLE_SRAM: settings.sram or settings.share_sram,
        Flag.SHARE_SRAM: settings.share_sram,
    }
    flags = _PRIORITY_FLAGS[settings.priority] | settings.init_flags
    return flags | sum(flag for flag, asked in wanted.items() if asked)
