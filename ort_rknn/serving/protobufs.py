"""Requests and answers between the published protocol buffers and the values of the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ort_rknn.remote.tensors import DATATYPES, STRINGS, TensorError, decode, element_count, text_of
from ort_rknn.remote.wire import cut, field_number, fields, raw_bytes
from ort_rknn.serving.service import Answer, Call
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Answers", "Asked", "Head", "Requests", "call_of", "parameters_of"]

_MOST_KNOWN, _LONGEST_KNOWN = 256, 2 << 10  # heads, and bytes of one: half a megabyte at most (a guess)

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


@frozen
class Head:
    """A request but for its tensors' bytes.

    Attributes:
        id: The client's own mark.
        model: The model's name.
        version: Its version.
        inputs: Name, datatype and shape of each.
        outputs: Names of the outputs wanted.
        parameters: The request's.
        tensors: The inputs as they came, which have the values that are not raw.
    """

    id: str
    model: str
    version: str
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Any]
    tensors: Any

    @classmethod
    def of(cls, message: Any) -> Head:
        """The head of a ``ModelInferRequest``."""
        return cls(
            message.id,
            message.model_name,
            message.model_version,
            tuple((tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in message.inputs),
            tuple(output.name for output in message.outputs),
            parameters_of(message.parameters),
            message.inputs,
        )


@frozen
class Asked:
    """A request as it came.

    Attributes:
        head: All but the bytes.
        raw: Raw contents, in order.
    """

    head: Head
    raw: Sequence[bytes | memoryview]


class Requests:
    """Reads requests. A client's next picture has the head of its last one, which is known then.

    Args:
        messages: The published protocol buffers.
    """

    def __init__(self, messages: Any) -> None:
        self._request = messages.ModelInferRequest
        self._number = field_number(self._request, "raw_input_contents")
        self._known: dict[bytes, Head] = {}

    def read(self, content: bytes) -> Asked:
        """The request in a message.

        Raises:
            DecodeError: Protocol buffers': it is none.
        """
        parts = cut(content, self._number)
        if parts is None:
            message = self._request.FromString(content)
            return Asked(Head.of(message), message.raw_input_contents)
        rest, raw = parts
        head = self._known.get(rest)
        if head is None:
            head = Head.of(self._request.FromString(rest))
            if raw and len(rest) <= _LONGEST_KNOWN:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[rest] = head
        return Asked(head, raw)

    def read_or_say(self, content: bytes) -> Asked | TensorError:
        """The request in a message, or what is wrong with it: gRPC leaves a stream open for ever when this raises."""
        try:
            return self.read(content)
        except DecodeError as error:
            return TensorError(f"the message is no ModelInferRequest: {error}")


def call_of(asked: Asked, time_left: float | None, gone: Callable[[], bool]) -> Call:
    """A call from its request.

    Raises:
        TensorError: The tensors are not what they are said to be.
    """
    head, raw = asked.head, asked.raw
    if raw and len(raw) != len(head.inputs):
        raise TensorError(f"there are {len(head.inputs)} inputs and {len(raw)} raw contents: one of each is needed")
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    for number, (name, datatype, shape) in enumerate(head.inputs):
        if name in inputs:
            raise TensorError(f"input {name!r} is given twice")
        inputs[name] = decode(name, datatype, shape, raw[number]) if raw else _typed(head.tensors[number])
    return Call(head.model, head.version, inputs, head.outputs, head.parameters, time_left, gone)


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
    if not parameters:
        return {}
    found = {}
    for name, parameter in parameters.items():
        which = parameter.WhichOneof("parameter_choice")
        if which is not None:
            found[name] = getattr(parameter, which)
    return found


class Answers:
    """Writes answers; the head of an answer like the last one is known.

    Args:
        messages: The published protocol buffers.
    """

    def __init__(self, messages: Any) -> None:
        self._answer = messages.ModelInferResponse
        self._number = field_number(self._answer, "raw_output_contents")
        self._known: dict[Any, bytes] = {}

    def pieces(self, request_id: str, answer: Answer) -> list[bytes | memoryview]:
        """The serialized ``ModelInferResponse`` of an answer in pieces, the outputs where they lie."""
        key = (request_id, answer.model, answer.names, answer.datatypes, *[array.shape for array in answer.arrays])
        head = self._known.get(key)
        if head is None:
            message = self._answer(model_name=answer.model, model_version="1", id=request_id)
            for name, datatype, array in zip(answer.names, answer.datatypes, answer.arrays, strict=True):
                message.outputs.add(name=name, datatype=datatype, shape=array.shape)
            head = message.SerializeToString()
            if len(head) <= _LONGEST_KNOWN:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[key] = head
        raw = map(raw_bytes, answer.arrays, answer.datatypes)
        return [head, *fields(self._number, raw)]
