"""Forms of what a compiled model keeps as JSON: its steps, its manifest, and the table of several forms in one file."""

from __future__ import annotations

from typing import Any

from ort_rknn_converters.partition.plan_form import PLAN, STEP_NAME, TENSORS, VALUES
from ort_rknn_converters.util.own_files import is_plain_name
from ort_rknn_converters.util.plain_data import (
    ANYTHING,
    COUNT,
    TEXT,
    WHOLE,
    Form,
    Misshapen,
    by_name,
    maybe,
    record,
    rows,
    word,
)

__all__ = ["BUNDLE", "MANIFEST_FORM", "NOTES", "STEPS"]

_DIGITS = frozenset("0123456789abcdef")


def _file(value: Any) -> None:
    if not is_plain_name(value):
        raise Misshapen(f"{value!r:.60} is named, which is not beside it")


def _sha256(value: Any) -> None:
    if type(value) is not str or len(value) != 64 or not {*value} <= _DIGITS:
        raise Misshapen(f"expected a digest, found {value!r:.60}")


def _step(cpu: Form, npu: Form) -> Form:
    def form(value: Any) -> None:
        kind = value.get("kind") if type(value) is dict else None
        (npu if kind == "npu" else cpu)(value)

    return form


_CPU = {"kind": word("cpu"), "name": STEP_NAME, "inputs": rows(TEXT), "outputs": rows(TEXT)}
_NPU = {"kind": word("npu"), "name": STEP_NAME, "inputs": TENSORS, "outputs": TENSORS}
_ABOUT = {"targets": rows(TEXT), "toolkit_version": TEXT, "passes": rows(TEXT)}

STEPS: Form = record({"steps": rows(_step(record({**_CPU, "nodes": COUNT}), record(_NPU))), **_ABOUT})
"""The metadata of an EPContext model that says which nodes are which step."""

_CODE = record({"target": TEXT, "size": COUNT, "sha256": _sha256}, {"offset": COUNT, "file": _file})
NOTES: Form = record({"precision": TEXT, "codes": rows(_CODE)}, {"ir_version": WHOLE})
"""The attribute ``notes`` of an EPContext node."""

_STORED_NPU = {**_NPU, "code": by_name(_file), "onnx": maybe(_file), "precision": TEXT, "toolkit_version": TEXT}
MANIFEST_FORM: Form = record(
    {
        "format": ANYTHING,
        "shell": _file,
        "steps": rows(_step(record({**_CPU, "model": _file}), record(_STORED_NPU))),
        "plan": PLAN,
        "files": by_name(record({"size": COUNT, "sha256": _sha256, "mtime_ns": WHOLE})),
        **_ABOUT,
    }
)
"""``manifest.json`` of a cache entry."""

BUNDLE: Form = record(
    {
        "format": word(1),
        "variants": rows(
            record({"shapes": by_name(rows(COUNT)), "targets": rows(TEXT)}, {"blob": TEXT, "values": VALUES})
        ),
        "original": maybe(TEXT),
    }
)
"""The table of the compiled forms in one file; see :mod:`ort_rknn_converters.compiled.bundle`."""
