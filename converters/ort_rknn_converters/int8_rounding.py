"""A segment as the NPU stores it in int8: every tensor the compiled file quantizes is rounded on the file's own grid.

The compiled file keeps scale and zero point of each activation, under the name of the ONNX value it stands for (the
compiler only appends to names: ``logits_mm``, ``y__float16``). So each value of the segment's ONNX is looked up by
name: int8 there, it is quantized and dequantized; float16 there, it is rounded to fp16; not there, it was fused into
what follows and is not rounded at all. Weights the file keeps as int8 are rounded to 255 steps between the extremes of
each output channel, as the toolkit's simulator does by default (found by fitting its layers' outputs); those it keeps
in four bits (precision w4a16) by :mod:`ort_rknn_converters.int4_rounding`. The arithmetic stays in float32, as in the
vendor's own simulator.

Measured against it, on 48 to 49,152 outputs each: nets of Conv, Swish, Concat, Resize, MatMul and Tanh equal it in
every quantum, residual ones in 99.5 % (the rest is 1 off); AveragePool is 1 off in 6 % (2 behind a Sigmoid), and so is
pooling that the compiler splits. Nets with four-bit weights differ by 1.5e-4 at most. With the method ``layer`` behind
folded normalization, or the algorithm ``mmse``, which clips weights, the weights differ: for four bits by as much as
the rounding itself. Models that are float16 themselves are not rounded.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn_converters.frozen import frozen
from ort_rknn_converters.int4_rounding import in_four_bits

if TYPE_CHECKING:
    import onnx

    from ort_rknn_converters.rknn_values import RknnFile, RknnNode, RknnTensor

    Array = np.ndarray[Any, Any]

__all__ = ["INT8_RULE", "Layout", "Rounder", "on_grid", "owners", "round_to_int8"]

INT8_RULE = "simulator-int8-2"
"""Name of this rule and its version, for files that hold its results: raise it with every change of the numbers."""

_APPENDED = re.compile(r"[-_#/.]")
_CONVERT = "exDataConvert"
_FLOATS = (1, 11)  # FLOAT, DOUBLE
_STEPS, _LEAST = 255, -128  # of a weight
_SCALES = "_w4a16_weight"  # appended to the name of a weight in four bits; float16


def owners(names: Iterable[str], values: Iterable[str]) -> dict[str, str]:
    """Which ONNX value each of the compiler's tensors stands for: the longest of which it begins with the name.

    Args:
        names: The compiler's names.
        values: Names in the ONNX graph.
    """
    known = set(values)
    found = {}
    for name in names:
        ends = [len(name), *(match.start() for match in reversed(list(_APPENDED.finditer(name))))]
        owner = next((name[:end] for end in ends if name[:end] in known), None)
        if owner is not None:
            found[name] = owner
    return found


@frozen
class _Form:
    """How a value is stored: int8 on a grid, or float16 (``scale`` is ``None``)."""

    scale: float | None = None
    zero_point: int = 0


class Layout:
    """What the compiled file says of the values of one segment.

    Args:
        graph: The segment's ONNX.
        file: The same segment, compiled.
        fp16: Values that are taken to be float16, with the layers that make them, though the file has them as int8.

    Attributes:
        base: ONNX value -> the compiler's tensor that holds it.
        weights: ONNX constant -> the compiler's tensor that holds it.
        weight_users: Second input of a node -> the node; weights are that.
    """

    def __init__(self, graph: onnx.GraphProto, file: RknnFile, fp16: frozenset[str] = frozenset()) -> None:
        self._fp16 = fp16
        made = {name for node in graph.node for name in node.output if name}
        values = made | {value.name for value in graph.input}
        tensors = file.tensors
        # What no layer makes is scratch space of the compiler's.
        running = [name for node in file.nodes for name in node.outputs]
        self._users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for one in graph.node:
            for name in one.input:
                self._users[name].append(one)
        self.weight_users: dict[str, onnx.NodeProto] = {}
        for one in graph.node:
            for name in one.input[1:2]:
                self.weight_users.setdefault(name, one)
        self.owner = owners(running, values)
        self._look_behind_fused(file)
        self.weights: dict[str, RknnTensor] = {}
        stored = [tensor for tensor in tensors.values() if tensor.kind == "constant" and len(tensor.dims) > 1]
        for name, weight in owners((one.name for one in stored), (one.name for one in graph.initializer)).items():
            if weight not in self.weights or name == weight:
                self.weights[weight] = tensors[name]
        self.tensors = tensors
        converted = {name for node in file.nodes if node.op_type == _CONVERT for name in node.outputs}
        self.base: dict[str, str] = {}
        for name in running:
            owner = self.owner.get(name)
            if owner is not None and name not in converted and (owner not in self.base or name == owner):
                self.base[owner] = name
        self.maker: dict[str, RknnNode] = {}
        for node in file.nodes:
            for name in node.outputs:
                if name in self.owner and node.op_type != _CONVERT:
                    self.maker.setdefault(self.owner[name], node)

    def _look_behind_fused(self, file: RknnFile) -> None:
        """What a layer such as ConvRelu gives may be called after its Conv; it is what the Relu gives."""
        for layer in file.nodes:
            for name in layer.outputs:
                owner = self.owner.get(name, name)
                users = self._users[owner]
                if owner != name and len(users) == 1 and layer.op_type.endswith(users[0].op_type):
                    self.owner[name] = users[0].output[0]

    def form(self, name: str, *, changed: bool = True) -> _Form | None:
        """How one of the compiler's tensors is stored; ``None``: exactly.

        Args:
            name: The compiler's name.
            changed: Whether :attr:`fp16` counts.
        """
        if changed and self.owner.get(name) in self._fp16:
            return _Form()
        tensor: RknnTensor = self.tensors[name]
        quantization = tensor.quantization
        if tensor.dtype == "int8" and quantization is not None and quantization.zero_point:
            return _Form(quantization.scale[0], quantization.zero_point[0])
        return _Form() if tensor.dtype == "float16" else None

    def layer(self, node: onnx.NodeProto) -> RknnNode | None:
        """The compiled layer that a node went into: the one that makes its output, or the next output after it."""
        for _ in range(len(self._users)):
            found = next((self.maker[name] for name in node.output if name in self.maker), None)
            users = self._users[node.output[0]] if node.output else []
            if found is not None or len(users) != 1:
                return found
            node = users[0]
        return None

    def read(self, node: onnx.NodeProto, value: str) -> _Form | None:
        """How a node's layer reads a value, where that is another form than the value's own."""
        layer, base = self.layer(node), self.base.get(value)
        if layer is None:
            return None
        variants = [name for name in layer.inputs if self.owner.get(name) == value]
        if not variants:
            return None
        if value in self._fp16:
            form = None if self.is_fp16(layer) else self.form(variants[0], changed=False)
            return form if form is not None and form.scale is not None else None
        return self.form(variants[0]) if base not in variants else None

    def is_fp16(self, layer: RknnNode) -> bool:
        """Whether a layer is one of those that are taken to be float16."""
        return any(self.owner.get(name) in self._fp16 for name in layer.outputs)


def round_to_int8(model: onnx.ModelProto, file: RknnFile) -> onnx.ModelProto:
    """A copy of ``model`` that computes as the compiled file does.

    The pairs of QuantizeLinear and DequantizeLinear in it mean rounding only: it must be run without onnxruntime's
    graph optimizations, which would turn them into integer arithmetic.

    Args:
        model: The segment's ONNX.
        file: The same segment, compiled; its graph must be readable.
    """
    return Rounder(model, file).rounded()


class Rounder:
    """Rounds a segment again and again, with other layers in float16 each time.

    Args:
        model: The segment's ONNX.
        file: The same segment, compiled; its graph must be readable.
    """

    def __init__(self, model: onnx.ModelProto, file: RknnFile) -> None:
        import onnx
        from onnx import shape_inference

        self._file = file
        self._whole = model
        # Weights are large, and rounded once only.
        self._light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
        self._light.graph.CopyFrom(_without_weights(model.graph))
        inferred = shape_inference.infer_shapes(model).graph
        self._kinds = {
            value.name: value.type.tensor_type.elem_type
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
            if value.type.HasField("tensor_type")
        }
        self._weights: dict[tuple[str, str], onnx.TensorProto] = {}

    def rounded(self, fp16: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """The segment as the file has it, but for some values that are taken as float16, with the layers they are of.

        Args:
            fp16: Names of these values.
        """
        import onnx

        layout = Layout(self._whole.graph, self._file, fp16)
        rounded = onnx.ModelProto()
        rounded.CopyFrom(self._light)
        graph, kinds = rounded.graph, self._kinds
        graph.initializer.extend(self._weight(tensor, layout) for tensor in self._whole.graph.initializer)
        writer = _Writer(graph, kinds)
        nodes = list(graph.node)
        del graph.node[:]
        renamed: dict[str, str] = {}
        for value in graph.input:
            form = layout.form(layout.base[value.name]) if value.name in layout.base else None
            if form is not None and kinds.get(value.name) in _FLOATS:
                renamed[value.name] = writer.round(value.name, f"{value.name}/stored", form)
        for node in nodes:
            # The names of the original graph decide; those of the values as they are stored are read.
            for place, name in enumerate(node.input):
                if not name or kinds.get(name) not in _FLOATS:
                    continue
                other = layout.read(node, name)
                stored = renamed.get(name, name)
                node.input[place] = stored if other is None else writer.converted(stored, other)
            results = [name for name in node.output if name in layout.base and kinds.get(name) in _FLOATS]
            forms = {name: form for name in results if (form := layout.form(layout.base[name])) is not None}
            for place, name in enumerate(node.output):
                if name in forms:
                    node.output[place] = f"{name}/exact"
            graph.node.append(node)
            for name, form in forms.items():
                writer.round(f"{name}/exact", name, form)
        return rounded

    def _weight(self, tensor: onnx.TensorProto, layout: Layout) -> onnx.TensorProto:
        """A constant as it is stored; biases are int32 or float32 there, exact for our purpose."""
        from onnx import numpy_helper

        user = layout.weight_users.get(tensor.name)
        if tensor.data_type not in _FLOATS or len(tensor.dims) < 2 or user is None:
            return tensor
        stored, layer = layout.weights.get(tensor.name), layout.layer(user)
        dtype = stored.dtype if stored is not None else _kind_of_layer(layout, layer)
        if layer is not None and layout.is_fp16(layer):
            dtype = "float16"
        if dtype not in ("int8", "float16", "int4"):
            return tensor
        key = (tensor.name, dtype)
        if key not in self._weights:
            array: Array = np.asarray(numpy_helper.to_array(tensor))
            added = _identity(user, array) if stored is not None and stored.name == f"{tensor.name}_new" else 0
            if dtype == "int8":
                array = (on_grid(array + added, _channel_axes(user, array.ndim)) - added).astype(array.dtype)
            elif dtype == "int4" and stored is not None:
                scales = layout.tensors.get(f"{stored.name}{_SCALES}")
                one = scales is not None and scales.size == np.dtype(np.float16).itemsize
                group = stored.dims[1] if isinstance(stored.dims[1], int) else 0
                array = in_four_bits(array + added, _edges(user, array.ndim), group, one_scale=one) - added
            else:
                with np.errstate(over="ignore"):
                    array = array.astype(np.float16).astype(array.dtype)
            self._weights[key] = numpy_helper.from_array(array, tensor.name)
        return self._weights[key]


def _without_weights(graph: onnx.GraphProto) -> onnx.GraphProto:
    import onnx

    light = onnx.GraphProto(name=graph.name, node=graph.node, input=graph.input, output=graph.output)
    light.value_info.extend(graph.value_info)
    return light


class _Writer:
    """Adds rounding to a graph."""

    def __init__(self, graph: onnx.GraphProto, kinds: Mapping[str, int]) -> None:
        self._graph = graph
        self._kinds = kinds
        self._converted: dict[tuple[str, _Form], str] = {}
        self._grids: dict[_Form, list[str]] = {}

    def converted(self, source: str, form: _Form) -> str:
        """The name of a value in another form."""
        key = (source, form)
        if key not in self._converted:
            self._converted[key] = self.round(source, f"{source}/as{len(self._converted)}", form)
        return self._converted[key]

    def round(self, source: str, result: str, form: _Form) -> str:
        """Make ``result`` of ``source`` by rounding; returns its name."""
        from onnx import TensorProto, helper

        middle = f"{result}/raw"
        if form.scale is None:
            kind = self._kinds.get(result, TensorProto.FLOAT)
            steps = [
                helper.make_node("Cast", [source], [middle], to=TensorProto.FLOAT16),
                helper.make_node("Cast", [middle], [result], to=kind),
            ]
        else:
            grid = self._grid(form)
            steps = [
                helper.make_node("QuantizeLinear", [source, *grid], [middle]),
                helper.make_node("DequantizeLinear", [middle, *grid], [result]),
            ]
        self._graph.node.extend(steps)
        return result

    def _grid(self, form: _Form) -> list[str]:
        from onnx import numpy_helper

        if form not in self._grids:
            names = [f"grid{len(self._grids)}/scale", f"grid{len(self._grids)}/zero"]
            arrays: tuple[Array, Array] = (np.array(form.scale, np.float32), np.array(form.zero_point, np.int8))
            self._graph.initializer.extend(
                numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)
            )
            self._grids[form] = names
        return self._grids[form]


def _identity(node: onnx.NodeProto, weights: Array) -> Array:
    """What the compiler adds to the weights of a Conv whose input is added to its output: then no Add is left."""
    added = np.zeros_like(weights)
    if node.op_type == "Conv" and weights.shape[0] == weights.shape[1]:
        centre = tuple(size // 2 for size in weights.shape[2:])
        for channel in range(len(weights)):
            added[(channel, channel, *centre)] = 1
    return added


def _kind_of_layer(layout: Layout, layer: RknnNode | None) -> str:
    """What a layer computes in, told by its inputs."""
    kinds = {layout.tensors[name].dtype for name in (layer.inputs if layer else ()) if name in layout.owner}
    return "int8" if kinds == {"int8"} else "float16" if kinds == {"float16"} else ""


def _channel_axes(node: onnx.NodeProto, rank: int) -> Sequence[int]:
    """The axes of a weight over which its steps differ: the output channels."""
    flags = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Conv" or (node.op_type == "Gemm" and flags.get("transB")):
        return (0,)
    if node.op_type == "ConvTranspose":
        return (1,) if flags.get("group", 1) == 1 else (0, 1)
    if node.op_type in ("Gemm", "MatMul"):
        return (rank - 1,)
    return ()


def _edges(node: onnx.NodeProto, rank: int) -> tuple[int, int]:
    """The axes of a weight for output and input channels."""
    output = next(iter(_channel_axes(node, rank)), rank - 1)
    return output, 1 - output if rank == 2 or output == 0 else rank - 2


def on_grid(weights: Array, channels: Sequence[int]) -> Array:
    """Weights rounded to 255 steps between the least (or 0) and the largest (or 0) of each channel."""
    others = tuple(axis for axis in range(weights.ndim) if axis not in channels)
    low = np.minimum(weights.min(axis=others, keepdims=True), 0).astype(np.float64)
    high = np.maximum(weights.max(axis=others, keepdims=True), 0).astype(np.float64)
    step = (high - low) / _STEPS
    step = np.where(step == 0, 1, step)
    zero = np.rint(_LEAST - low / step)
    stored = np.clip(np.rint(weights / step) + zero, _LEAST, _LEAST + _STEPS)
    rounded: Array = ((stored - zero) * step).astype(weights.dtype)
    return rounded
