"""Lowers one segment: from standalone ONNX to the narrower ONNX that rknn-toolkit2 takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.infer import infer
from ort_rknn_converters.graph.nodes import bodies
from ort_rknn_converters.lower.fixes import FIXES
from ort_rknn_converters.lower.names import name_outputs, scalar_inputs, shorten
from ort_rknn_converters.lower.opset import lower_opset
from ort_rknn_converters.lower.types import strip_border_casts, to_float32
from ort_rknn_converters.onnx_file.split_model import SplitModel
from ort_rknn_converters.onnx_file.weights import LARGE, LargeWeights, weights_as_inputs
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.passes.base import Context, drop_unused
from ort_rknn_converters.passes.expand.cast_like import CastLike
from ort_rknn_converters.passes.simplify.constants import Constants
from ort_rknn_converters.passes.simplify.dequantized_weights import DequantizedWeights
from ort_rknn_converters.passes.simplify.identity import Identities
from ort_rknn_converters.targets import Target
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Lowered", "LoweredTensor", "lower"]

Array = NDArray[Any]

_IR_VERSION = 10
"""Newest IR version written: known to every onnx the toolkit may be run with."""


class LoweredTensor(NamedTuple):
    """One input or output as the compiled code sees it.

    Attributes:
        name: Its name in the lowered model.
        dtype: float32, int32, int64 or bool.
        shape: Fixed dimensions; [1] where the segment has rank 0.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@frozen
class Lowered:
    """Model and feeds as the toolkit gets them.

    Attributes:
        model: The lowered model: inputs and outputs in the segment's order, under its names.
        inputs: What the compiled code is fed; the caller casts and reshapes.
        outputs: What it gives back; the caller casts and reshapes to the segment's own.
        names: Lowered name -> the segment's, for inputs and outputs whose name was too long for the toolkit.
    """

    model: SplitModel
    inputs: tuple[LoweredTensor, ...]
    outputs: tuple[LoweredTensor, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def feeds(self, declared: Iterable[Mapping[str, Array]]) -> tuple[dict[str, Array], ...]:
        """Feeds as the compiled code takes them, made of feeds of the segment."""
        return tuple(
            {name: feed[self.names.get(name, name)].astype(dtype).reshape(shape) for name, dtype, shape in self.inputs}
            for feed in declared
        )

    def answers(
        self, given: Sequence[Mapping[str, Array]], wanted: Sequence[Mapping[str, Array]]
    ) -> list[dict[str, Array]]:
        """The compiled code's answers as the segment declares them; floating ones stay float32.

        Args:
            given: Per feed, lowered output name -> array. Lowering may have changed names, rank 0, and whole numbers
                into floats.
            wanted: Per feed, the segment's output name -> array of its dtype and rank.
        """
        forms = {self.names.get(name, name): (name, dtype) for name, dtype, _ in self.outputs}
        declared = []
        for wants, answer in zip(wanted, given, strict=True):
            found = {}
            for name, want in wants.items():
                known, dtype = forms[name]
                array = answer.get(known)
                if array is None:
                    continue
                if want.ndim == 0 and array.size == 1:
                    array = array.reshape(())
                if dtype.kind == "f" and want.dtype.kind in "biu":
                    array = array.astype(want.dtype)
                found[name] = array
            declared.append(found)
        return declared


def lower(segment: onnx.ModelProto, target: Target) -> Lowered:
    """Bring a segment into the form the toolkit compiles.

    Args:
        segment: A standalone model with fixed shapes; left as it is.
        target: The SoC it is compiled for (named in messages).

    Raises:
        ModelError: Something in the segment cannot be lowered; the message says what.
    """
    model = _load(segment)
    _drop_listed_constants(model)
    ctx = Context.of(model, ConvertOptions(target=target.name))
    Constants().apply(model, ctx)
    if any(onnx_graph.static_shape(value) is None for node in model.graph for value in node.outputs if value.name):
        infer(model)  # a part of a prepared model brings all its shapes
    _check(model, target)
    CastLike().apply(model, ctx)
    if not any(node.op_type == "QuantizeLinear" for node in model.graph):
        DequantizedWeights(every=True).apply(model, ctx)  # nothing computes in integers here

    to_float32(model)
    strip_border_casts(model)
    Identities().apply(model, ctx)
    _check(model, target)
    model = lower_opset(model)
    ctx = Context.of(model, ctx.options)
    for fix in FIXES:
        fix.apply(model, ctx)
    scalar_inputs(model, ctx)
    drop_unused(model)

    names = shorten(model)
    model.ir_version = _IR_VERSION
    inputs = tuple(_tensor(value) for value in model.graph.inputs)
    outputs = tuple(_tensor(value) for value in model.graph.outputs)
    large = _take_large(model)
    proto = onnx_graph.to_proto(model)
    name_outputs(proto)
    return Lowered(SplitModel(proto, large), inputs, outputs, names)


def _load(segment: onnx.ModelProto) -> ir.Model:
    """The segment as a graph of its own that shares only the data of large weights with it."""
    skeleton, large = weights_as_inputs(segment)
    model = onnx_graph.load(skeleton)
    weights = dict(large.tensors)
    for value in [value for value in model.graph.inputs if value.name in weights]:
        model.graph.inputs.remove(value)
        value.const_value = weights[value.name or ""]
        model.graph.register_initializer(value)
    return model


def _take_large(model: ir.Model) -> LargeWeights:
    """Take the large weights out; the model is of no use afterwards but to be written."""
    initializers = model.graph.initializers
    taken = []
    for name in list(initializers):
        tensor = initializers[name].const_value
        if tensor is not None and tensor.nbytes >= LARGE and tensor.dtype != ir.DataType.STRING:
            taken.append((name, tensor))
            initializers.pop(name)
    return LargeWeights(tuple(taken))


def _drop_listed_constants(model: ir.Model) -> None:
    """Old models list their constants among the inputs; here nobody can feed them."""
    fed = [value for value in model.graph.inputs if not value.is_initializer()]
    if len(fed) != len(model.graph.inputs):
        model.graph.inputs.clear()
        model.graph.inputs.extend(fed)


def _check(model: ir.Model, target: Target) -> None:
    """Refuse what the toolkit would drop without a word, or crash on."""
    graph = model.graph
    if not graph.inputs:
        raise ModelError(f"nothing to compile for {target.name}: the segment has no inputs")
    for what, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            shape = onnx_graph.static_shape(value)
            if not isinstance(value.type, ir.TensorType):
                raise ModelError(f"{what} {value.name} is no tensor; {target.name} code has nothing else")
            if shape is None:
                raise ModelError(f"{what} {value.name} has no fixed shape; {target.name} code needs one")
            if 0 in shape:
                raise ModelError(f"{what} {value.name} is empty (shape {list(shape)}), which the toolkit refuses")
    for value in graph.inputs:
        if not value.uses():
            raise ModelError(f"input {value.name} is not used; the toolkit would drop it")
    for node in graph:
        if bodies(node):
            raise ModelError(f"{node.op_type} {node.name}: the toolkit has no control flow")
        if any(not isinstance(value.type, ir.TensorType) for value in node.outputs if value.name and value.type):
            raise ModelError(f"{node.op_type} {node.name} makes something that is no tensor")
    seen: set[ir.Value] = set()
    moving = _depends_on_inputs(graph)
    for value in graph.outputs:
        source = _behind_identities(value)
        if source in seen:
            raise ModelError(f"output {value.name} occurs twice; the toolkit would drop one")
        if source.producer() is None or value not in moving:
            raise ModelError(f"output {value.name} is constant or an input passed through; the toolkit would drop it")
        seen.add(source)


def _behind_identities(value: ir.Value) -> ir.Value:
    node = value.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _depends_on_inputs(graph: ir.Graph) -> set[ir.Value]:
    moving = set(graph.inputs)
    for node in graph:
        if any(value in moving for value in node.inputs if value is not None):
            moving.update(node.outputs)
    return moving


def _tensor(value: ir.Value) -> LoweredTensor:
    shape = onnx_graph.static_shape(value)
    assert shape is not None
    assert value.dtype is not None
    return LoweredTensor(value.name or "", np.dtype(value.dtype.numpy()), shape or (1,))
