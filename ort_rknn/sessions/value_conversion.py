"""Lets onnxruntime convert fed values: a session that gives back its inputs, made when first needed."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Echo"]

_IR_VERSION, _OPSET = 8, 16  # the first opset whose Identity takes optionals
_SUFFIX = ".echo"


class _Typed(Protocol):
    @property
    def type(self) -> str:
        """The type as onnxruntime writes it."""


class Echo:
    """Converts what onnxruntime accepts for an input (nested lists, OrtValues, dictionaries ...) to plain values.

    Args:
        inputs: Input name to something with onnxruntime's type string.
    """

    def __init__(self, inputs: Mapping[str, _Typed]) -> None:
        self._types = {name: spec.type for name, spec in inputs.items()}
        self._sessions: dict[frozenset[str], Any] = {}
        self._lock = threading.Lock()

    def convert(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """The values as arrays (or lists, dictionaries, ``None``), of the types the inputs declare."""
        names = list(feed)
        values = self._session(frozenset(names)).run([name + _SUFFIX for name in names], feed)
        return dict(zip(names, values, strict=True))

    def _session(self, names: frozenset[str]) -> Any:
        with self._lock:
            if names not in self._sessions:
                self._sessions[names] = _open({name: self._types[name] for name in sorted(names)})
            return self._sessions[names]


def _open(types: Mapping[str, str]) -> Any:
    from onnx import helper

    from ort_rknn.ort_private.own import public

    options = public("SessionOptions")()
    options.intra_op_num_threads = 1
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [name + _SUFFIX]) for name in types],
        "echo",
        [helper.make_value_info(name, _type_proto(text)) for name, text in types.items()],
        [helper.make_value_info(name + _SUFFIX, _type_proto(text)) for name, text in types.items()],
    )
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)])
    return public("InferenceSession")(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _type_proto(text: str) -> Any:
    """The ONNX type of one of onnxruntime's strings, e.g. ``optional(seq(tensor(float)))``."""
    from onnx import TensorProto, helper

    match = re.fullmatch(r"(\w+)\((.*)\)", text)
    if match is None:
        raise ValueError(f"no ONNX type is written {text!r}")
    kind, inner = match.groups()
    if kind == "seq":
        return helper.make_sequence_type_proto(_type_proto(inner))
    if kind == "optional":
        return helper.make_optional_type_proto(_type_proto(inner))
    return helper.make_tensor_type_proto(TensorProto.DataType.Value(inner.upper()), None)
