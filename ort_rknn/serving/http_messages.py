"""Requests and answers of HTTP: bodies, read within limits; a JSON head, with the tensors in it or as bytes behind it.

Numbers are counted against the shape before an array is made of them.
"""

from __future__ import annotations

import json
import math
import socket
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from io import BufferedIOBase
from itertools import compress
from typing import Any

import numpy as np

from ort_rknn.remote.failures import Refusal
from ort_rknn.remote.tensors import DATATYPES, STRINGS, TensorError, decode, element_count, encode
from ort_rknn.serving.model import Outputs
from ort_rknn.serving.service import Call, check_spoken

__all__ = ["Body", "HttpRefusal", "answer_parts", "call_of_json"]

_BODY_S = 60.0  # a request must have come in whole (a guess: 25 MB at 4 Mbit/s)
_LONGEST_LINE, _TRAILERS = 1 << 10, 16  # of what stands around chunks (a guess)
_PACKED = ("gzip", "x-gzip", "deflate")  # what tritonclient sends when it is asked to
_EITHER = 32 + zlib.MAX_WBITS  # gzip's head or zlib's, as the bytes say


class HttpRefusal(Refusal):
    """Raised for a request that has a status of HTTP's own.

    Args:
        code: gRPC's status by name.
        text: What was wrong, and what to do.
        status: HTTP's status.
    """

    def __init__(self, code: str, text: str, status: int) -> None:
        super().__init__(code, text)
        self.status = status


class Body:
    """The content of one request, which is read once, within limits of size and time.

    Args:
        headers: The request's.
        stream: Where it is read from.
        connection: The socket under it, whose time limit is set.
        most: Bytes at most, of any request here.

    Attributes:
        unread: Whether bytes of it are still in the connection, so that no other request can be read from that.
    """

    def __init__(self, headers: Message, stream: BufferedIOBase, connection: socket.socket, most: int) -> None:
        self._headers, self._stream, self._connection, self._most = headers, stream, connection, most
        self._deadline = 0.0
        self.unread = self.chunked or any(text.strip("0") for text in headers.get_all("Content-Length", ()))

    @property
    def chunked(self) -> bool:
        """Whether it comes in chunks, or in another form that is none."""
        return "Transfer-Encoding" in self._headers

    def length(self) -> int | None:
        """The announced length, which must be one that may be read; ``None`` when it is not said.

        Raises:
            Refusal: It is too large, or the request is in another form.
        """
        if self._packing() not in ("identity", *_PACKED):
            raise Refusal("UNIMPLEMENTED", f"requests come as they are, or as one of {', '.join(_PACKED)}")
        lengths = self._headers.get_all("Content-Length", [])
        if self.chunked:
            if [text.strip().lower() for text in self._headers.get_all("Transfer-Encoding", [])] != ["chunked"]:
                raise Refusal("UNIMPLEMENTED", "the only Transfer-Encoding is chunked")
            if lengths:  # which a proxy may read as the end of another request
                raise Refusal("INVALID_ARGUMENT", "a request has a Content-Length or comes in chunks, not both")
            return None
        if not lengths:
            return None
        text = lengths[0]
        if len(set(lengths)) > 1 or not (text.isascii() and text.isdecimal()) or len(text) > 15:
            self.unread = True
            raise Refusal("INVALID_ARGUMENT", f"Content-Length {', '.join(lengths)[:20]!r} is no length")
        self._check_size(int(text), self._most)
        return int(text)

    def read(self, most: int) -> memoryview:
        """The content, unpacked.

        Args:
            most: Bytes that it may be.

        Raises:
            ConnectionError: It ended early.
            Refusal: It is too large, or not in the form that it is said to be.
            TimeoutError: It did not come in whole in time.
        """
        length = self.length()
        self._check_size(length or 0, most)
        self._deadline = time.monotonic() + _BODY_S
        body = self._chunks(most) if self.chunked else self._bytes(length or 0)
        self.unread = False
        return body if self._packing() == "identity" else self._unpacked(body, most)

    def _packing(self) -> str:
        return str(self._headers.get("Content-Encoding", "identity")).strip().lower()

    def _check_size(self, size: int, most: int) -> None:
        if size > most:
            more = " (--max-message)" if most == self._most else ""
            text = f"{size} bytes are more than {most}, which is all that is taken here{more}"
            raise HttpRefusal("RESOURCE_EXHAUSTED", text, 413)

    def _unpacked(self, body: memoryview, most: int) -> memoryview:
        reader = zlib.decompressobj(_EITHER)
        try:
            content = reader.decompress(body, most + 1)  # a few bytes may unpack to gigabytes
        except zlib.error as error:
            raise Refusal("INVALID_ARGUMENT", f"the request is no {self._packing()}: {error}") from error
        self._check_size(len(content), most)
        if not reader.eof or reader.unused_data:
            what = "has bytes behind its end" if reader.eof else "ends early"
            raise Refusal("INVALID_ARGUMENT", f"the request in {self._packing()} {what}")
        return memoryview(content)

    def _bytes(self, length: int) -> memoryview:
        body = memoryview(bytearray(length))  # zeros take no memory until they are written over
        at = 0
        while at < length:
            self._wait()
            got = self._stream.readinto1(body[at:])
            if not got:
                raise ConnectionError("the request ended early")
            at += got
        return body

    def _chunks(self, most: int) -> memoryview:
        body = bytearray()
        while True:
            text = self._line().partition(b";")[0].strip()
            if not text or len(text) > 15 or text.strip(b"0123456789abcdefABCDEF"):
                raise Refusal("INVALID_ARGUMENT", f"a chunk begins with its length in hexadecimals, not {text[:20]!r}")
            size = int(text, 16)
            self._check_size(len(body) + size, most)
            if not size:
                break
            body += self._bytes(size)
            if self._line():
                raise Refusal("INVALID_ARGUMENT", f"a chunk of {size} bytes does not end behind them")
        for _ in range(_TRAILERS):
            if not self._line():
                return memoryview(body)
        raise Refusal("INVALID_ARGUMENT", f"more than {_TRAILERS} lines behind the chunks")

    def _line(self) -> bytes:
        self._wait()
        line = self._stream.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            if len(line) < _LONGEST_LINE:
                raise ConnectionError("the request ended early")
            raise Refusal("INVALID_ARGUMENT", f"a line of the chunks is longer than {_LONGEST_LINE} bytes")
        return line.rstrip(b"\r\n")

    def _wait(self) -> None:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))


def call_of_json(
    model: str, version: str, head: bytes | memoryview, binary: memoryview
) -> tuple[Call, dict[str, np.ndarray[Any, Any]], Mapping[str, Any]]:
    """A call and its inputs from the JSON and the bytes behind it, and the JSON read.

    Raises:
        TensorError: The JSON is not a request, or the tensors are not what they are said to be.
    """
    request = _object(head)
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    at = 0
    for row in _rows(request, "inputs"):
        name, shape = _name(row), _shape(row)
        check_spoken(name, _parameters(row))
        if name in inputs:
            raise TensorError(f"input {name!r} is given twice")
        datatype, size = row.get("datatype"), _parameters(row).get("binary_data_size")
        if not isinstance(datatype, str):
            raise TensorError(f"input {name!r} has no datatype")
        if size is None:
            inputs[name] = _listed(name, datatype, shape, row.get("data"))
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at:
            raise TensorError(f"input {name!r}: binary_data_size is {size!r}, and {len(binary) - at} bytes are left")
        inputs[name] = decode(name, datatype, shape, binary[at : at + size])
        at += size
    if at != len(binary):
        raise TensorError(f"{len(binary) - at} bytes are left over behind the inputs")
    rows = _rows(request, "outputs")
    outputs = tuple(_name(row) for row in rows)
    for row in rows:
        check_spoken(_name(row), _parameters(row))
    return Call(model, version, outputs, _parameters(request)), inputs, request


def answer_parts(
    request: Mapping[str, Any], outputs: Outputs, arrays: Sequence[np.ndarray[Any, Any]]
) -> tuple[bytes, list[bytes]]:
    """The JSON of an answer, and the bytes behind it; an output is bytes where the request asks for that."""
    all_binary = bool(_parameters(request).get("binary_data_output", False))
    wanted = {_name(row): bool(_parameters(row).get("binary_data", all_binary)) for row in _rows(request, "outputs")}
    rows, parts = [], []
    for name, datatype, array in zip(outputs.names, outputs.datatypes, arrays, strict=True):
        row: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if wanted.get(name, all_binary):
            parts.append(encode(array, datatype))
            row["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            row["data"] = array.reshape(-1).tolist()
        rows.append(row)
    head = {"model_name": outputs.model, "model_version": "1", "outputs": rows}
    if isinstance(request.get("id"), str):
        head["id"] = request["id"]
    return json.dumps(head).encode(), parts


def _object(head: bytes | memoryview) -> dict[str, Any]:
    try:
        request = json.loads(bytes(head))
    except (ValueError, RecursionError) as error:
        raise TensorError(f"the request is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise TensorError("the request must be a JSON object with inputs")
    return request


def _rows(request: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = request.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TensorError(f"{key} must be a list of objects")
    return rows


def _name(row: Mapping[str, Any]) -> str:
    name = row.get("name")
    if not isinstance(name, str):
        raise TensorError("a tensor has no name")
    return name


def _shape(row: Mapping[str, Any]) -> list[int]:
    shape = row.get("shape")
    if not isinstance(shape, list) or not all(isinstance(dim, int) and not isinstance(dim, bool) for dim in shape):
        raise TensorError(f"input {row.get('name')!r} has no shape of whole numbers")
    return shape


def _parameters(row: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = row.get("parameters", {})
    if not isinstance(parameters, dict):
        raise TensorError("parameters must be an object")
    return parameters


def _listed(name: str, datatype: str, shape: list[int], data: Any) -> np.ndarray[Any, Any]:
    if not isinstance(data, list):
        raise TensorError(f"input {name!r} has no data: a list, or binary_data_size and bytes behind the JSON")
    count = element_count(name, shape)
    if datatype != STRINGS and datatype not in DATATYPES:
        raise TensorError(f"input {name!r}: there is no datatype {datatype!r}; there are {', '.join(DATATYPES)}, BYTES")
    values = list(_flat(data))
    if len(values) != count:
        raise TensorError(f"input {name!r}: {len(values)} values do not fill shape {shape}")
    if datatype == STRINGS:
        if not all(isinstance(value, str) for value in values):
            raise TensorError(f"input {name!r}: BYTES in JSON are strings")
        texts = np.empty(count, object)
        texts[:] = values
        return texts.reshape(shape)
    kinds = {"b": (bool,), "f": (int, float)}.get(DATATYPES[datatype].kind, (int,))
    if not all(isinstance(value, kinds) and (kinds == (bool,) or not isinstance(value, bool)) for value in values):
        raise TensorError(f"input {name!r}: a value is no {datatype}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, DATATYPES[datatype])
        if array.dtype.kind == "f" and _grew_infinite(values, np.isinf(array)):
            raise OverflowError  # 1e6 is no FP16; an infinity that is sent is one
        return array.reshape(shape)
    except (OverflowError, ValueError) as error:
        raise TensorError(f"input {name!r}: a value does not fit {datatype}") from error


def _grew_infinite(values: list[Any], infinite: np.ndarray[Any, Any]) -> bool:
    return bool(infinite.any()) and any(map(math.isfinite, compress(values, infinite.tolist())))


def _flat(data: list[Any]) -> Iterator[Any]:
    """The values of nested lists, in order, without recursion: depth is the client's choice."""
    stack = [iter(data)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()
