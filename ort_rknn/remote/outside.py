"""A model's outside as it travels: inputs, outputs and metadata as JSON, and the stub that onnxruntime opens instead.

The server makes both of its session, whatever it was opened from. A client with onnxruntime opens the stub, and so
answers and judges in onnxruntime's own words; one without reads the JSON.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ort_rknn.remote.tensors import ort_type_of
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.plain_data import ANYTHING, COUNT, TEXT, WHOLE, by_name, either, maybe, record, rows

__all__ = ["OUTSIDE", "OUTSIDE_KEY", "PLACES_KEY", "STUB_KEY", "Argument", "Outside", "pack", "stub_of", "unpack"]

OUTSIDE_KEY, STUB_KEY, PLACES_KEY = "ort_rknn.outside", "ort_rknn.stub", "ort_rknn.places"
"""Keys among the parameters of Triton's model config; other clients leave them alone."""

_ARGUMENTS = rows(rows(either(TEXT, rows(maybe(either(TEXT, COUNT))))))

OUTSIDE = record(
    {
        **dict.fromkeys(("inputs", "outputs", "overridable"), _ARGUMENTS),
        "meta": by_name(either(TEXT, WHOLE)),
        "custom": by_name(TEXT),
        "providers": rows(TEXT),
        "plan": by_name(ANYTHING),
    },
    more=True,
)
"""Form of what a server says of a model in :data:`OUTSIDE_KEY`."""

_META = ("producer_name", "graph_name", "domain", "description", "graph_description", "version")
_LONGEST_TYPE = 200  # characters of a type: it is read by recursion
_MOST_ZEROS = 1 << 22  # elements of an initializer that a caller may replace; a guess
_MOST_STUB = 64 << 20  # bytes a packed stub may grow to: names and shapes, no weights (a guess)


@frozen
class Argument:
    """An input or output: onnxruntime's ``NodeArg`` as a value.

    Attributes:
        name: Its name.
        type: onnxruntime's type string.
        shape: Numbers, names of dimensions, and ``None`` where nothing is known.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    @classmethod
    def of(cls, argument: Any) -> Argument:
        """A ``NodeArg`` as a value."""
        return cls(argument.name, argument.type, tuple(argument.shape))

    @classmethod
    def listed(cls, rows: Sequence[Any]) -> tuple[Argument, ...]:
        """Arguments from their JSON."""
        found = tuple(cls(str(name), str(kind), tuple(shape)) for name, kind, shape in rows)
        if long := next((one.type for one in found if len(one.type) > _LONGEST_TYPE), ""):
            raise ValueError(f"no type is written {long[:_LONGEST_TYPE]!r}")
        return found


@frozen
class Outside:
    """Everything that a session says of its model.

    Attributes:
        inputs: What every caller feeds.
        outputs: What comes out.
        overridable: Initializers that a caller may replace.
        meta: Fields of the model's metadata.
        custom: The model's own entries in its metadata.
        providers: Providers of the server's session.
        plan: The server's plan as JSON, or empty.
    """

    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    overridable: tuple[Argument, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, session: Any) -> Outside:
        """The outside of a session."""
        meta = session.get_modelmeta()
        return cls(
            tuple(map(Argument.of, session.get_inputs())),
            tuple(map(Argument.of, session.get_outputs())),
            tuple(map(Argument.of, session.get_overridable_initializers() or ())),
            {name: getattr(meta, name) for name in _META},
            dict(meta.custom_metadata_map),
            tuple(session.get_providers()),
            session.plan.to_dict(),
        )

    def to_dict(self) -> dict[str, Any]:
        """The outside as JSON."""
        rows = {
            name: [[one.name, one.type, list(one.shape)] for one in getattr(self, name)]
            for name in ("inputs", "outputs", "overridable")
        }
        more = {"meta": dict(self.meta), "custom": dict(self.custom), "providers": list(self.providers)}
        return {**rows, **more, "plan": dict(self.plan)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outside:
        """The outside from its JSON."""
        return cls(
            Argument.listed(data["inputs"]),
            Argument.listed(data["outputs"]),
            Argument.listed(data["overridable"]),
            dict(data["meta"]),
            {str(key): str(value) for key, value in data["custom"].items()},
            tuple(data["providers"]),
            dict(data["plan"]),
        )

    @classmethod
    def of_config(cls, inputs: Sequence[Any], outputs: Sequence[Any]) -> Outside:
        """The outside as another maker's server says it: names, datatypes and shapes with -1.

        Args:
            inputs: Name, datatype and shape of each.
            outputs: Likewise.

        Raises:
            ValueError: A datatype is not known here.
        """
        return cls(tuple(map(_declared, inputs)), tuple(map(_declared, outputs)))


def _declared(row: Any) -> Argument:
    name, datatype, shape = row
    kind = ort_type_of(datatype)
    if kind is None:
        raise ValueError(f"tensor {name!r} has datatype {datatype!r}, which onnxruntime has no numpy type for")
    return Argument(name, kind, tuple(int(dim) if int(dim) >= 0 else None for dim in shape))


def pack(stub: bytes) -> str:
    """A stub as text."""
    return base64.b64encode(zlib.compress(stub)).decode()


def unpack(text: str) -> bytes:
    """The stub in a text; never more than 64 MB.

    Raises:
        ValueError: It is not one.
    """
    try:
        stream = zlib.decompressobj()
        stub = stream.decompress(base64.b64decode(text, validate=True), _MOST_STUB)
    except zlib.error as error:
        raise ValueError(f"the server's description of the model is damaged: {error}") from error
    if not stream.eof:
        raise ValueError("the server's description of the model is damaged or too large")
    return stub


def stub_of(outside: Outside) -> bytes:
    """An ONNX model with this outside and no computation."""
    from ort_rknn_converters.compiled.stub_model import make_stub
    from ort_rknn_converters.onnx_file.schema import ModelProto, ValueInfoProto, helper

    def value(argument: Argument) -> ValueInfoProto:
        return helper.make_value_info(argument.name, _type_proto(argument.type, argument.shape))

    meta = {"version": 0, **dict.fromkeys(_META[:-1], ""), **outside.meta}
    model = ModelProto(ir_version=10, producer_name=meta["producer_name"], domain=meta["domain"])
    model.doc_string, model.model_version = meta["description"], int(meta["version"])
    model.graph.name, model.graph.doc_string = meta["graph_name"], meta["graph_description"]
    for key, text in outside.custom.items():
        model.metadata_props.add(key=key, value=text)
    model.graph.input.extend(map(value, outside.inputs))
    model.graph.output.extend(map(value, outside.outputs))
    for argument in outside.overridable:
        model.graph.input.append(value(argument))
        model.graph.initializer.append(_zeros(argument))
    content: bytes = make_stub(model).SerializeToString()
    return content


def _zeros(argument: Argument) -> Any:
    from ort_rknn_converters.onnx_file.schema import TensorProto, helper

    element = _element(argument.type)
    count = math.prod(dim for dim in argument.shape if isinstance(dim, int))
    if count > _MOST_ZEROS:
        raise ValueError(f"its initializer {argument.name!r} has {count} elements")
    values: list[Any] = [b"" if element == TensorProto.STRING else 0] * count
    return helper.make_tensor(argument.name, element, [dim for dim in argument.shape if isinstance(dim, int)], values)


def _type_proto(text: str, shape: Sequence[Any] | None = None) -> Any:
    """The ONNX type of one of onnxruntime's strings, e.g. ``optional(seq(tensor(float)))``."""
    from ort_rknn_converters.onnx_file.schema import TypeProto, helper

    kind, _, inner = text.partition("(")
    inner = inner[:-1]
    if kind == "seq":
        return helper.make_sequence_type_proto(_type_proto(inner))
    if kind == "optional":
        return helper.make_optional_type_proto(_type_proto(inner, shape or None))
    if kind == "map":
        key, _, value = inner.partition(",")
        made = TypeProto()
        made.map_type.key_type = _element(f"tensor({key})")
        made.map_type.value_type.CopyFrom(_type_proto(value))
        return made
    # onnxruntime shows a scalar and an unknown rank alike: [] stays unknown, which takes both
    dims = list(shape) if shape else None
    return helper.make_tensor_type_proto(_element(text), dims)


def _element(text: str) -> int:
    from ort_rknn_converters.onnx_file.schema import TensorProto

    match = re.fullmatch(r"tensor\((\w+)\)", text)
    if match is None:
        raise ValueError(f"no ONNX type is written {text!r}")
    return int(TensorProto.DataType.Value(match.group(1).upper()))
