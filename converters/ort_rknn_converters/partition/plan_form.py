"""Form of a plan as plain data: what a plan that is read back from a file must be, before anything is made of it."""

from __future__ import annotations

from typing import Any

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.util.own_files import is_plain_name
from ort_rknn_converters.util.plain_data import (
    COUNT,
    NUMBER,
    TEXT,
    WHOLE,
    Form,
    Misshapen,
    by_name,
    either,
    flat_rows,
    maybe,
    record,
    rows,
)

__all__ = ["PLAN", "STEP_NAME", "TENSORS", "VALUES"]

_NONE = type(None)
_KINDS = (
    *("float", "float16", "bfloat16", "double", "bool", "string", "complex64", "complex128"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)),
    *("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float4e2m1"),
)
_DTYPES = frozenset(f"tensor({kind})" for kind in _KINDS)


def STEP_NAME(value: Any) -> None:
    """Takes the name of a segment or step: files are called by it, so it must lead nowhere."""
    if not is_plain_name(value) or not value.isprintable():
        raise Misshapen(f"expected a name such as npu_0, found {value!r:.60}")


def _pinned(value: Any) -> None:
    from ort_rknn_converters.pinned_values import pinned_text  # imports numpy, for which few compiled models wait

    TEXT(value)
    try:
        pinned_text("", value)
    except UnknownOption:
        raise Misshapen(f"expected a pinned value as JSON, found {value!r:.60}") from None


VALUES: Form = by_name(_pinned)
"""Values of inputs that compiled code takes for constants."""


def _dtype(value: Any) -> None:
    if type(value) is not str or value not in _DTYPES:
        raise Misshapen(f"expected a type such as tensor(float), found {value!r:.60}")


TENSORS: Form = rows(record({"name": TEXT, "dtype": _dtype, "shape": rows(either(maybe(WHOLE), TEXT))}))
"""Values at a segment's border, see :class:`~ort_rknn_converters.tensor_info.TensorInfo`."""

_SEGMENT = record(
    {"name": STEP_NAME, "nodes": rows(TEXT), "inputs": TENSORS, "outputs": TENSORS},
    {name: maybe(NUMBER) for name in ("rel_rms", "max_abs", "seconds", "estimated_s")} | {"size": maybe(COUNT)},
)
_NODES = flat_rows(
    {"name": (str,), "op_type": (str,), "place": (str,), "reason": (str,), "segment": (str, _NONE)},
    frozenset({"reason", "segment"}),
)
_OUTPUT_ERROR = record(
    {"name": TEXT, "rel_rms": maybe(NUMBER), "max_abs": maybe(NUMBER)},
    {"problem": TEXT},
)
_PLAN = record(
    {"target": TEXT, "precision": TEXT, "nodes": _NODES, "segments": rows(_SEGMENT)},
    {
        "notes": rows(TEXT),
        "estimated_cpu_s": maybe(NUMBER),
        "estimated_by": TEXT,
        "mostly": TEXT,
        "estimate": TEXT,
        "whole": maybe(record({"outputs": rows(_OUTPUT_ERROR), "others": rows(TEXT)})),
        "values": VALUES,
    },
)


def PLAN(value: Any) -> None:
    """Takes :meth:`.Plan.to_dict`'s data; two segments of one name, and places there are none of, are refused."""
    _PLAN(value)
    if not {row["place"] for row in value["nodes"]} <= {"NPU", "CPU"}:
        raise Misshapen("a node's place is neither NPU nor CPU").inside(".nodes")
    names = [row["name"] for row in value["segments"]]
    if len({*names}) != len(names):
        raise Misshapen("two segments have the same name").inside(".segments")
