"""What is asked of a context of librknnrt when it is opened."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from ort_rknn.devices.base import SegmentCode
from ort_rknn.devices.rknnrt.abi import NUMPY_OF, Format, InOutNum, Query, SdkVersion, TensorAttr
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, failure
from ort_rknn.devices.rknnrt.tensor_layout import is_quantized, matched, runtime_shape
from ort_rknn.errors import DeviceError

__all__ = ["check_counts", "choose_shapes", "io_types", "query", "query_attrs", "query_versions"]


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
