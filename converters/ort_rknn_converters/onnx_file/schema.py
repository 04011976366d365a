"""ONNX's messages and tensors: those of onnx and onnx-ir where they are installed, else as much as opening needs.

A board that only opens compiled models needs neither package (together some 170 MB with what they need): ONNX's message
descriptor and the protobuf library, which onnxruntime brings along, are enough. Modules that a conversion alone imports
name onnx and onnx-ir themselves.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ort_rknn_converters.errors import ExtraMissing

__all__ = [
    "COMPLETE",
    "EXTRA",
    "AttributeProto",
    "GraphProto",
    "ModelProto",
    "NodeProto",
    "TensorProto",
    "TypeProto",
    "ValueInfoProto",
    "demand_complete",
    "helper",
    "ir",
    "numpy_helper",
    "onnx",
]

COMPLETE = find_spec("onnx") is not None and find_spec("onnx_ir") is not None
"""Whether both packages are installed: what converts needs them."""

EXTRA = 'pip install "ort-rknn[convert]"'
"""What installs them."""


def demand_complete(doing: str) -> None:
    """Refuse what needs onnx and onnx-ir where they are not installed.

    Args:
        doing: What it is, at the beginning of a sentence: ``"converting a model"``.

    Raises:
        ExtraMissing: They are not; the message names the extra.
    """
    if not COMPLETE:
        raise ExtraMissing(
            f"{doing} needs the packages onnx and onnx-ir, which are not installed: {EXTRA}. Models that were compiled"
            " before open without them"
        )


if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        TypeProto,
        ValueInfoProto,
        helper,
        numpy_helper,
    )
else:
    if COMPLETE:
        from ort_rknn_converters.util.lazy_imports import defer_sympy

        with defer_sympy():
            import onnx
            import onnx_ir as ir
        from onnx import helper, numpy_helper
    else:
        from ort_rknn_converters.onnx_file import lite_messages as helper
        from ort_rknn_converters.onnx_file import lite_messages as numpy_helper
        from ort_rknn_converters.onnx_file import lite_messages as onnx
        from ort_rknn_converters.onnx_file import lite_tensors as ir
    AttributeProto, GraphProto, ModelProto = onnx.AttributeProto, onnx.GraphProto, onnx.ModelProto
    NodeProto, TensorProto, TypeProto = onnx.NodeProto, onnx.TensorProto, onnx.TypeProto
    ValueInfoProto = onnx.ValueInfoProto
