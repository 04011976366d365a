"""Requests and answers between the published protocol buffers and the values of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from ort_rknn.remote.tensors import DATATYPES, STRINGS, TensorError, decode, element_count, text_of
from ort_rknn.remote.wire import cut, field_head, field_number, raw_bytes
from ort_rknn.serving.model import Outputs
from ort_rknn.serving.service import Call, check_spoken
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Answers", "Asked", "Head", "Requests", "inputs_of", "parameters_of"]

_MOST_KNOWN, _LONGEST_KNOWN = 256, 2 << 10  # heads, and bytes of one: half a megabyte at most (a guess)
_ALIKE = 4  # requests of one length that are told apart by their bytes (a guess)

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
        call: What is asked for.
        inputs: Name, datatype and shape of each.
        numbers: Name, numpy's type, shape and bytes of each; ``None`` unless all are tensors of numbers and nothing
            more is asked for.
        wanted: The outputs as they came.
        tensors: The inputs as they came, which have the values that are not raw.
    """

    id: str
    call: Call
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    numbers: tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...] | None
    tensors: Any
    wanted: Any

    @classmethod
    def of(cls, message: Any) -> Head:
        """The head of a ``ModelInferRequest``."""
        names = tuple(output.name for output in message.outputs)
        inputs = tuple((tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in message.inputs)
        call = Call(message.model_name, message.model_version, names, parameters_of(message.parameters))
        plain = not any(tensor.parameters for tensor in (*message.inputs, *message.outputs))
        return cls(message.id, call, inputs, _numbers(inputs) if plain else None, message.inputs, message.outputs)


def _numbers(
    inputs: Sequence[tuple[str, str, tuple[int, ...]]],
) -> tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...] | None:
    if len({name for name, _, _ in inputs}) < len(inputs) or any(kind not in DATATYPES for _, kind, _ in inputs):
        return None
    try:
        return tuple(
            (name, DATATYPES[kind], shape, element_count(name, shape) * DATATYPES[kind].itemsize)
            for name, kind, shape in inputs
        )
    except TensorError:  # which is raised where the tensor is read
        return None


class Asked(NamedTuple):  # one is made of every call: a frozen class takes four times as long
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
        self._alike: dict[int, list[_Template]] = {}  # by the length of the message
        self._templates = 0

    def read(self, content: bytes) -> Asked:
        """The request in a message.

        Raises:
            DecodeError: Protocol buffers': it is none.
        """
        for template in self._alike.get(len(content), ()):
            if template.fits(content):
                view = memoryview(content)
                return Asked(template.head, [view[begun:end] for begun, end in template.raw])
        parts = cut(content, self._number)
        if parts is None:
            message = self._request.FromString(content)
            return Asked(Head.of(message), message.raw_input_contents)
        rest, spans = parts
        head = self._known.get(rest)
        if head is None:
            head = Head.of(self._request.FromString(rest))
            if spans and len(rest) <= _LONGEST_KNOWN:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[rest] = head
        elif len(rest) <= _LONGEST_KNOWN:  # it has come before, so it may come again
            self._remember(_Template(head, content, spans), len(content))
        view = memoryview(content)
        return Asked(head, [view[begun:end] for begun, end in spans])

    def _remember(self, template: _Template, length: int) -> None:
        if self._templates >= _MOST_KNOWN:
            self._alike, self._templates = {}, 0
        alike = self._alike.setdefault(length, [])
        if len(alike) < _ALIKE:
            alike.append(template)
            self._templates += 1

    def read_or_say(self, content: bytes) -> Asked | TensorError:
        """The request in a message, or what is wrong with it: gRPC leaves a stream open for ever when this raises."""
        try:
            return self.read(content)
        except DecodeError as error:
            return TensorError(f"the message is no ModelInferRequest: {error}")


class _Template:
    """A request but for the bytes of its tensors, which lie where they lay.

    Args:
        head: What stands around them, read.
        content: A request.
        raw: Where its tensors begin and end.
    """

    def __init__(self, head: Head, content: bytes, raw: Sequence[tuple[int, int]]) -> None:
        self.head, self.raw = head, raw
        begins, ends = [0, *[end for _, end in raw]], [*[begun for begun, _ in raw], len(content)]
        pieces = [(content[begun:end], begun) for begun, end in zip(begins, ends, strict=True) if begun < end]
        (self._first, _), *self._more = pieces

    def fits(self, content: bytes) -> bool:
        """Whether a request of this length is the same around its tensors, their lengths included."""
        return content.startswith(self._first) and (
            not self._more or all(content.startswith(piece, at) for piece, at in self._more)
        )


def inputs_of(asked: Asked) -> dict[str, np.ndarray[Any, Any]]:
    """The inputs of a request.

    Raises:
        TensorError: The tensors are not what they are said to be.
    """
    head, raw = asked
    if head.numbers is not None and len(raw) == len(head.numbers):
        arrays = {}
        for (name, dtype, shape, size), one in zip(head.numbers, raw):  # noqa: B905 - as many
            if len(one) != size:
                break
            array = np.frombuffer(one, dtype).reshape(shape)
            arrays[name] = array if array.flags.aligned else array.copy()  # numbers lie anywhere in a message
        else:
            return arrays
    return _checked(head, raw)


def _checked(head: Head, raw: Sequence[bytes | memoryview]) -> dict[str, np.ndarray[Any, Any]]:
    for tensor in (*head.tensors, *head.wanted):
        if tensor.parameters:
            check_spoken(tensor.name, parameters_of(tensor.parameters))
    if raw and len(raw) != len(head.inputs):
        raise TensorError(f"there are {len(head.inputs)} inputs and {len(raw)} raw contents: one of each is needed")
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    for number, (name, datatype, shape) in enumerate(head.inputs):
        if name in inputs:
            raise TensorError(f"input {name!r} is given twice")
        inputs[name] = decode(name, datatype, shape, raw[number]) if raw else _typed(head.tensors[number])
    return inputs


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

    def pieces(
        self, request_id: str, outputs: Outputs, arrays: Sequence[np.ndarray[Any, Any]]
    ) -> list[bytes | memoryview]:
        """The serialized ``ModelInferResponse`` of an answer in pieces, the outputs where they lie.

        Args:
            request_id: The client's own mark.
            outputs: Names and types.
            arrays: The values.
        """
        key = (request_id, outputs.model, outputs.names, outputs.datatypes, *[array.shape for array in arrays])
        head = self._known.get(key)
        if head is None:
            message = self._answer(model_name=outputs.model, model_version="1", id=request_id)
            for name, datatype, array in zip(outputs.names, outputs.datatypes, arrays, strict=True):
                message.outputs.add(name=name, datatype=datatype, shape=array.shape)
            head = message.SerializeToString()
            if len(head) <= _LONGEST_KNOWN:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[key] = head
        pieces: list[bytes | memoryview] = [head]
        for array, datatype in zip(arrays, outputs.datatypes):  # noqa: B905 - one of each
            raw = raw_bytes(array, datatype)
            pieces += (field_head(self._number, len(raw)), raw)
        return pieces
