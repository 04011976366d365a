"""Names and shapes of what goes into a model that is handed to the toolkit, and of what comes out."""

from __future__ import annotations

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.onnx_file.protobuf_wire import NotProtobuf
from ort_rknn_converters.onnx_file.signature import DeclaredValue, declared
from ort_rknn_converters.util.frozen import frozen

__all__ = ["GraphIO", "read_io"]


@frozen
class GraphIO:
    """Inputs (initializers not counted) and outputs, in the model's order."""

    inputs: tuple[DeclaredValue, ...]
    outputs: tuple[DeclaredValue, ...]


def read_io(model: bytes) -> GraphIO:
    """Read the graph's inputs and outputs from a serialized ``ModelProto``.

    Raises:
        ModelError: The bytes are not a protobuf message with a graph in it.
    """
    try:
        return GraphIO(*declared(model))
    except NotProtobuf as error:
        raise ModelError(f"not an ONNX model: {error}") from error
