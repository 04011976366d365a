"""Requests and answers of HTTP: a JSON head, with the tensors in it or as bytes behind it.

Numbers are counted against the shape before an array is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ort_rknn.remote.tensors import DATATYPES, STRINGS, TensorError, decode, element_count, encode
from ort_rknn.serving.model import Outputs
from ort_rknn.serving.service import Call

__all__ = ["answer_parts", "call_of_json"]


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
    outputs = tuple(_name(row) for row in _rows(request, "outputs"))
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
            return np.array(values, DATATYPES[datatype]).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise TensorError(f"input {name!r}: a value does not fit {datatype}") from error


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
