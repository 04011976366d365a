"""The stub: an ONNX model with a model's outside (inputs, outputs, metadata) and no computation.

A real onnxruntime session of the stub answers ``get_inputs``, ``get_outputs``, ``get_overridable_initializers`` and
``get_modelmeta`` exactly as a session of the original model would, at next to no cost: there are no weights to read and
nothing to optimize. Open it with ``ORT_DISABLE_ALL`` and never run it.

Each output is a Reshape of an empty constant to a shape that inference cannot know, so that what the graph declares is
what onnxruntime shows: names of dimensions, unknown dimensions, unknown rank.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ort_rknn_converters.errors import ModelError, RunFailed
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import SLOW_S, bounded
from ort_rknn_converters.onnx_file.schema import TensorProto, TypeProto, ValueInfoProto, helper, onnx
from ort_rknn_converters.onnx_file.tensor_types import element_type, raw_constant
from ort_rknn_converters.util.plain_data import (
    ANYTHING,
    COUNT,
    TEXT,
    Misshapen,
    by_name,
    either,
    maybe,
    parse_json,
    rows,
)

__all__ = ["ABOUT", "declare_outputs", "make_stub", "note_pinned", "pin"]

ABOUT = ("producer_name", "producer_version", "domain", "model_version", "doc_string")
"""Fields of a model that say where it comes from: onnxruntime shows them as its metadata."""


def _note(value: Any) -> None:
    rows(ANYTHING)(value)
    if len(value) != 2:
        raise Misshapen("expected dimensions and shapes")
    by_name(COUNT)(value[0])
    rows(rows(either(maybe(COUNT), TEXT)))(value[1])


_PREFIX = "ort_rknn.stub."
_PINNED = "ort_rknn.pinned"
_OPSET = 21  # the first with the 4-bit types; onnxruntime 1.20, the oldest we take, has it
_IR_VERSION = 10  # goes with opset 21
_BY_CAST = frozenset({"UINT4", "INT4", "UINT2", "INT2", "FLOAT8E8M0"})  # onnxruntime reshapes none, but casts to them
_NEWER = frozenset({"UINT2", "INT2", "FLOAT8E8M0", "FLOAT4E2M1"})  # need the operators and IR of onnx 1.20
_NEWER_OPSET, _NEWER_IR_VERSION = 25, 13


def make_stub(model: onnx.ModelProto, *, source: bytes | str | None = None) -> onnx.ModelProto:
    """Make the stub of a model.

    Args:
        model: The original model, or any with the same inputs, outputs and metadata.
        source: The original as bytes or path. When given, and an output's shape is not declared in full, onnxruntime is
            asked what it infers, because ``get_outputs`` shows that.

    Raises:
        ModelError: onnxruntime cannot load ``source``.
    """
    graph = model.graph
    stub = onnx.ModelProto()
    for field in ABOUT:
        if model.HasField(field):
            setattr(stub, field, getattr(model, field))
    stub.metadata_props.extend(model.metadata_props)
    newer = any(_element_name(value) in _NEWER for value in graph.output)
    opset, stub.ir_version = (_NEWER_OPSET, _NEWER_IR_VERSION) if newer else (_OPSET, _IR_VERSION)
    stub.opset_import.extend([helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)])
    stub.graph.name = graph.name
    stub.graph.doc_string = graph.doc_string
    stub.graph.metadata_props.extend(graph.metadata_props)
    _inputs(model, stub)
    given = {value.name for value in stub.graph.input}
    outputs = declare_outputs(model, source) if source is not None else list(graph.output)
    stub.graph.output.extend(outputs)
    _produce(stub.graph, [value for value in outputs if value.name not in given])
    return stub


def _inputs(model: onnx.ModelProto, stub: onnx.ModelProto) -> None:
    """The graph inputs, and the initializers that callers may override (constants before IR version 4)."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in initializers:
            if model.ir_version < 4:
                continue
            stub.graph.initializer.append(raw_constant(initializers[value.name]))
        stub.graph.input.append(value)


def declare_outputs(model: onnx.ModelProto, source: bytes | str) -> list[ValueInfoProto]:
    """The graph outputs with the shapes that onnxruntime shows: inferred where the model does not say.

    Raises:
        ModelError: onnxruntime cannot load ``source``.
    """
    outputs = [ValueInfoProto.FromString(value.SerializeToString()) for value in model.graph.output]
    if all(_is_static(value.type) for value in outputs):
        return outputs
    with ort.onnxruntime_errors("ONNX Runtime cannot load the model"):
        shown = _shown(source, ort.quiet_options())
    for value, argument in zip(outputs, shown, strict=True):
        kind = value.type.WhichOneof("value")
        if kind in (None, "tensor_type"):
            declared = value.type.tensor_type
            declared.elem_type = element_type(argument.type)
            # onnxruntime shows a scalar and an unknown rank alike; the declaration decides, or else unknown it stays.
            if argument.shape or declared.HasField("shape"):
                _set_shape(declared, argument.shape)
        elif kind == "optional_type" and argument.shape:
            _set_shape(value.type.optional_type.elem_type.tensor_type, argument.shape)
    return outputs


def _shown(source: bytes | str, options: Any) -> Any:
    """The outputs as onnxruntime shows them; without what it folds, where that takes for ever."""
    try:
        return bounded(lambda _: ort.on_cpu(source, options).get_outputs(), SLOW_S, "what is constant")
    except RunFailed:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.on_cpu(source, options).get_outputs()


def note_pinned(stub: onnx.ModelProto, source: bytes | str, dims: Mapping[str, int]) -> None:
    """Write into a stub what onnxruntime shows of its outputs when named dimensions are pinned; see :func:`pin`.

    Args:
        stub: Changed in place.
        source: The original model as bytes or path.
        dims: Dimension name -> size.

    Raises:
        ModelError: onnxruntime cannot load ``source``.
    """
    if all(_is_static(value.type) for value in stub.graph.output):
        return
    options = ort.quiet_options()
    for name, size in dims.items():
        options.add_free_dimension_override_by_name(name, size)
    with ort.onnxruntime_errors("ONNX Runtime cannot load the model with these dimensions"):
        shown = _shown(source, options)
    note = [dict(dims), [argument.shape for argument in shown]]
    stub.graph.metadata_props.add(key=_PINNED, value=json.dumps(note, sort_keys=True))


def pin(stub: onnx.ModelProto, dims: Mapping[str, int]) -> None:
    """Write named dimensions as numbers, and all outputs as onnxruntime infers them then where that was noted.

    onnxruntime does that to the inputs itself (but not in every release where nothing is optimized) and infers the
    outputs, which a stub keeps it from.
    """
    for value in (*stub.graph.input, *stub.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]
    notes = []
    for entry in stub.graph.metadata_props:
        with suppress(Misshapen):  # what cannot be read shows the declared shapes
            notes += [parse_json(entry.value, _note)] if entry.key == _PINNED else []
    for noted, shapes in notes:
        for value, shape in zip(stub.graph.output, shapes, strict=False):
            if noted == dims and shape and value.type.HasField("tensor_type"):
                _set_shape(value.type.tensor_type, shape)


def _is_static(kind: TypeProto) -> bool:
    which = kind.WhichOneof("value")
    if which == "optional_type":
        return _is_static(kind.optional_type.elem_type)
    if which != "tensor_type":
        return which is not None
    tensor = kind.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _set_shape(tensor: TypeProto.Tensor, shape: Sequence[int | str | None]) -> None:
    tensor.ClearField("shape")
    tensor.shape.SetInParent()
    for dim in shape:
        entry = tensor.shape.dim.add()
        if isinstance(dim, str):
            entry.dim_param = dim
        elif dim is not None:
            entry.dim_value = dim


def _produce(graph: onnx.GraphProto, outputs: Iterable[ValueInfoProto]) -> None:
    """One small construct per output that has the declared type and a shape nobody can infer."""
    shape_known = False
    for number, value in enumerate(outputs):
        kind = value.type.WhichOneof("value")
        if kind == "tensor_type":
            if not shape_known:
                _unknown_shape(graph)
                shape_known = True
            _tensor(graph, f"{_PREFIX}{number}", value)
        elif kind == "sequence_type":
            _sequence(graph, f"{_PREFIX}{number}", value)
        elif kind == "optional_type":
            node = helper.make_node("Optional", [], [value.name], type=value.type.optional_type.elem_type)
            graph.node.append(node)
        else:
            raise ModelError(f"output {value.name!r} has type {kind}, which no ONNX operator gives")


def _unknown_shape(graph: onnx.GraphProto) -> None:
    one, flat = _PREFIX + "one", _PREFIX + "flat"
    graph.initializer.append(helper.make_tensor(one, TensorProto.INT64, [1], [1]))
    graph.initializer.append(helper.make_tensor(flat, TensorProto.INT64, [1], [-1]))
    graph.node.append(helper.make_node("NonZero", [one], [_PREFIX + "found"]))
    graph.node.append(helper.make_node("Reshape", [_PREFIX + "found", flat], [_PREFIX + "shape"]))


def _element_name(value: ValueInfoProto) -> str:
    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type))


def _tensor(graph: onnx.GraphProto, name: str, value: ValueInfoProto) -> None:
    elem = value.type.tensor_type.elem_type
    stored = TensorProto.FLOAT if _element_name(value) in _BY_CAST else elem
    graph.initializer.append(TensorProto(name=name, data_type=stored, dims=[0]))
    if stored == elem:
        graph.node.append(helper.make_node("Reshape", [name, _PREFIX + "shape"], [value.name]))
    else:
        graph.node.append(helper.make_node("Reshape", [name, _PREFIX + "shape"], [name + ".float"]))
        graph.node.append(helper.make_node("Cast", [name + ".float"], [value.name], to=elem))


def _sequence(graph: onnx.GraphProto, name: str, value: ValueInfoProto) -> None:
    element = value.type.sequence_type.elem_type
    if element.WhichOneof("value") == "map_type":
        graph.initializer.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[0, 1]))
        node = helper.make_node("ZipMap", [name], [value.name], domain="ai.onnx.ml")
        if element.map_type.key_type == TensorProto.STRING:
            node.attribute.append(helper.make_attribute("classlabels_strings", ["0"]))
        else:
            node.attribute.append(helper.make_attribute("classlabels_int64s", [0]))
        graph.node.append(node)
    else:
        node = helper.make_node("SequenceEmpty", [], [value.name], dtype=element.tensor_type.elem_type)
        graph.node.append(node)
