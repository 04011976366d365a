"""Requests and answers between the published protocol buffers and the values of the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ort_rknn.remote.tensors import DATATYPES, STRINGS, TensorError, decode, element_count, text_of
from ort_rknn.remote.wire import Parted, field_number, fields, raw_bytes
from ort_rknn.serving.service import Answer, Call

__all__ = ["answer_pieces", "call_of", "parameters_of"]

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    STRINGS: "bytes_contents",
}
"""Datatype -> the field of typed contents; FP16 goes raw only, says the protocol."""


def call_of(parted: Parted, time_left: float | None, gone: Callable[[], bool]) -> Call:
    """A call from its ``ModelInferRequest``.

    Raises:
        TensorError: The tensors are not what they are said to be.
    """
    request, raw = parted.message, parted.raw
    if raw and len(raw) != len(request.inputs):
        raise TensorError(f"there are {len(request.inputs)} inputs and {len(raw)} raw contents: one of each is needed")
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    for number, tensor in enumerate(request.inputs):
        if tensor.name in inputs:
            raise TensorError(f"input {tensor.name!r} is given twice")
        if raw:
            inputs[tensor.name] = decode(tensor.name, tensor.datatype, tuple(tensor.shape), raw[number])
        else:
            inputs[tensor.name] = _typed(tensor)
    return Call(
        request.model_name,
        request.model_version,
        inputs,
        [output.name for output in request.outputs],
        parameters_of(request.parameters),
        time_left,
        gone,
    )


def _typed(tensor: Any) -> np.ndarray[Any, Any]:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise TensorError(f"tensor {tensor.name!r}: {tensor.datatype!r} must come as raw contents")
    shape = tuple(tensor.shape)
    values = getattr(tensor.contents, field)
    if len(values) != element_count(tensor.name, shape):
        raise TensorError(f"tensor {tensor.name!r}: {len(values)} values in {field} do not fill shape {list(shape)}")
    if tensor.datatype == STRINGS:
        texts = np.empty(len(values), object)
        texts[:] = [text_of(tensor.name, value) for value in values]
        return texts.reshape(shape)
    try:
        return np.array(values, DATATYPES[tensor.datatype]).reshape(shape)
    except OverflowError as error:
        raise TensorError(f"tensor {tensor.name!r}: a value does not fit {tensor.datatype}") from error


def parameters_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as Python values."""
    found = {}
    for name, parameter in parameters.items():
        which = parameter.WhichOneof("parameter_choice")
        if which is not None:
            found[name] = getattr(parameter, which)
    return found


def answer_pieces(messages: Any, request_id: str, answer: Answer) -> list[bytes | memoryview]:
    """The serialized ``ModelInferResponse`` of an answer in pieces, the outputs where they lie."""
    message = messages.ModelInferResponse(model_name=answer.model, model_version="1", id=request_id)
    for name, datatype, array in zip(answer.names, answer.datatypes, answer.arrays, strict=True):
        message.outputs.add(name=name, datatype=datatype, shape=array.shape)
    raw = (raw_bytes(array, datatype) for array, datatype in zip(answer.arrays, answer.datatypes, strict=True))
    number = field_number(messages.ModelInferResponse, "raw_output_contents")
    return [message.SerializeToString(), *fields(number, raw)]
