"""A segment as the NPU stores it in int8: every tensor the compiled file quantizes is rounded on the file's own grid.

Each value of the segment's ONNX is looked up in the compiled file (:mod:`ort_rknn_converters.numerics.storage_map`):
int8 there, it is quantized and dequantized; float16 there, it is rounded to fp16; not there, it was fused into what
follows and is not rounded at all. Weights are rounded as the toolkit's simulator does by default
(:mod:`ort_rknn_converters.numerics.weight_rounding`). The arithmetic stays in float32, as in the vendor's own
simulator.

Measured against it, on 48 to 49,152 outputs each: nets of Conv, Swish, Concat, Resize, MatMul and Tanh equal it in
every quantum, residual ones in 99.5 % (the rest is 1 off); AveragePool is 1 off in 6 % (2 behind a Sigmoid), and so is
pooling that the compiler splits. Nets with four-bit weights differ by 1.5e-4 at most; with the method ``layer`` behind
folded normalization by as much as the rounding itself. The algorithm ``mmse`` clips weights, which is not computed: 3
quanta were seen in a net of two layers. Models that are float16 themselves are not rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ort_rknn_converters.numerics.storage_map import Storage, StorageMap
from ort_rknn_converters.numerics.weight_rounding import BY_LAYER, as_stored

if TYPE_CHECKING:
    import onnx

    from ort_rknn_converters.rknn_format.values import RknnFile, RknnNode

__all__ = ["INT8_RULE", "Rounder", "round_to_int8"]

INT8_RULE = "simulator-int8-3"
"""Name of this rule and its version, for files that hold its results: raise it with every change of the numbers."""

_FLOATS = (1, 11)  # FLOAT, DOUBLE
_SCALES = "_w4a16_weight"  # appended to the name of a weight in four bits; float16


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
        self._skeleton = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
        self._skeleton.graph.CopyFrom(_without_weights(model.graph))
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

        storages = StorageMap(self._whole.graph, self._file, fp16)
        rounded = onnx.ModelProto()
        rounded.CopyFrom(self._skeleton)
        graph, kinds = rounded.graph, self._kinds
        graph.initializer.extend(self._weight(tensor, storages) for tensor in self._whole.graph.initializer)
        writer = _Writer(graph, kinds)
        nodes = list(graph.node)
        del graph.node[:]
        renamed: dict[str, str] = {}
        for value in graph.input:
            storage = storages.storage_of(storages.base[value.name]) if value.name in storages.base else None
            if storage is not None and kinds.get(value.name) in _FLOATS:
                renamed[value.name] = writer.round(value.name, f"{value.name}/stored", storage)
        for node in nodes:
            # The names of the original graph decide; those of the values as they are stored are read.
            for place, name in enumerate(node.input):
                if not name or kinds.get(name) not in _FLOATS:
                    continue
                other = storages.storage_read(node, name)
                stored = renamed.get(name, name)
                node.input[place] = stored if other is None else writer.converted(stored, other)
            results = [name for name in node.output if name in storages.base and kinds.get(name) in _FLOATS]
            rounding = {
                name: storage for name in results if (storage := storages.storage_of(storages.base[name])) is not None
            }
            for place, name in enumerate(node.output):
                if name in rounding:
                    node.output[place] = f"{name}/exact"
            graph.node.append(node)
            for name, storage in rounding.items():
                writer.round(f"{name}/exact", name, storage)
        return rounded

    def _weight(self, tensor: onnx.TensorProto, storages: StorageMap) -> onnx.TensorProto:
        """A constant as it is stored; biases are int32 or float32 there, exact for our purpose."""
        from onnx import numpy_helper

        user = storages.weight_users.get(tensor.name)
        if tensor.data_type not in _FLOATS or len(tensor.dims) < 2 or user is None:
            return tensor
        stored, layer = storages.weights.get(tensor.name), storages.layer(user)
        dtype = stored.dtype if stored is not None else _kind_of_layer(storages, layer)
        if layer is not None and storages.is_fp16(layer):
            dtype = "float16"
        if dtype not in ("int8", "float16", "int4"):
            return tensor
        key = (tensor.name, dtype)
        if key not in self._weights:
            scales = storages.tensors.get(f"{stored.name}{_SCALES}") if stored is not None else None
            array = as_stored(
                np.asarray(numpy_helper.to_array(tensor)),
                user,
                dtype,
                group=stored.dims[1] if stored is not None else 0,
                one_scale=scales is not None and scales.size == np.dtype(np.float16).itemsize,
                with_identity=stored is not None and stored.name == f"{tensor.name}_new",
                by_layer=self._file.custom_string == BY_LAYER,
            )
            self._weights[key] = numpy_helper.from_array(array, tensor.name)
        return self._weights[key]


def _without_weights(graph: onnx.GraphProto) -> onnx.GraphProto:
    import onnx

    skeleton = onnx.GraphProto(name=graph.name, node=graph.node, input=graph.input, output=graph.output)
    skeleton.value_info.extend(graph.value_info)
    return skeleton


class _Writer:
    """Adds rounding to a graph."""

    def __init__(self, graph: onnx.GraphProto, kinds: Mapping[str, int]) -> None:
        self._graph = graph
        self._kinds = kinds
        self._converted: dict[tuple[str, Storage], str] = {}
        self._grids: dict[Storage, list[str]] = {}

    def converted(self, source: str, storage: Storage) -> str:
        """The name of a value in another storage."""
        key = (source, storage)
        if key not in self._converted:
            self._converted[key] = self.round(source, f"{source}/as{len(self._converted)}", storage)
        return self._converted[key]

    def round(self, source: str, result: str, storage: Storage) -> str:
        """Make ``result`` of ``source`` by rounding; returns its name."""
        from onnx import TensorProto, helper

        middle = f"{result}/raw"
        if storage.scale is None:
            kind = self._kinds.get(result, TensorProto.FLOAT)
            steps = [
                helper.make_node("Cast", [source], [middle], to=TensorProto.FLOAT16),
                helper.make_node("Cast", [middle], [result], to=kind),
            ]
        else:
            grid = self._grid(storage)
            steps = [
                helper.make_node("QuantizeLinear", [source, *grid], [middle]),
                helper.make_node("DequantizeLinear", [middle, *grid], [result]),
            ]
        self._graph.node.extend(steps)
        return result

    def _grid(self, storage: Storage) -> list[str]:
        from onnx import numpy_helper

        if storage not in self._grids:
            names = [f"grid{len(self._grids)}/scale", f"grid{len(self._grids)}/zero"]
            scale, zero = np.array(storage.scale, np.float32), np.array(storage.zero_point, np.int8)
            self._graph.initializer.append(numpy_helper.from_array(scale, names[0]))
            self._graph.initializer.append(numpy_helper.from_array(zero, names[1]))
            self._grids[storage] = names
        return self._grids[storage]


def _kind_of_layer(storages: StorageMap, layer: RknnNode | None) -> str:
    """Type a layer computes in, found from its inputs."""
    kinds = {storages.tensors[name].dtype for name in (layer.inputs if layer else ()) if name in storages.owner}
    return "int8" if kinds == {"int8"} else "float16" if kinds == {"float16"} else ""
