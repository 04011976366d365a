"""ONNX's messages and tensors: those of onnx and onnx-ir where they are installed, else as much as opening needs.

A board that only opens compiled models needs neither package (together some 170 MB with what they need): ONNX's message
descriptor and the protobuf library, which onnxruntime brings along, are enough. Modules that a conversion alone imports
name onnx and onnx-ir themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_rknn_converters.extras import COMPLETE

__all__ = [
    "AttributeProto",
    "GraphProto",
    "ModelProto",
    "NodeProto",
    "TensorProto",
    "TypeProto",
    "ValueInfoProto",
    "helper",
    "ir",
    "numpy_helper",
    "onnx",
]

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
