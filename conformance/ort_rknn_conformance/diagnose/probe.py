"""Parts of a model on a device, with every tensor inside as an output: what an error is looked for with.

A part is cut out of the prepared model like a segment is, so the same works on any device; one that needs compiled
code gets it from the toolkit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from ort_rknn.devices.base import Device, SegmentCode, TensorSpec, needs
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.dataflow import DataFlow, boundary
from ort_rknn_converters.graph.extract import extract
from ort_rknn_converters.lower.lower import Lowered, lower
from ort_rknn_converters.onnx_file.blobs import BytesBlob
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.passes.base import FLOATS
from ort_rknn_converters.pipeline.convert import prepared
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment

__all__ = ["Probe", "ProbeSession"]

Array = NDArray[Any]


class ProbeSession:
    """A prepared model whose tensors can be computed on CPU onnxruntime, and whose parts on a device.

    Args:
        model: Path or bytes of the original.
        shapes: Fixed shapes of its open inputs.
        device: What runs the parts.
        target: SoC name.
        precision: ``fp16`` ...

    Raises:
        ConvertError: The model cannot be prepared.
    """

    def __init__(
        self, model: str | bytes, shapes: Mapping[str, tuple[int, ...]], device: Device, target: str, precision: str
    ) -> None:
        self.device = device
        self._target = target
        self.precision = precision
        self._model = prepared(model, ConvertOptions(target=target, shapes=shapes)).model
        self._flow = DataFlow.of(self._model.graph)
        self._number = {node.name or "": index for index, node in enumerate(self._flow.nodes)}
        self._session: Any = None
        self._watched: list[str] = []
        self._seen: list[dict[str, Array]] = []

    @property
    def names(self) -> frozenset[str]:
        """Names of all nodes."""
        return frozenset(self._number)

    def op_type(self, node: str) -> str:
        """A node's op."""
        return str(self._flow.nodes[self._number[node]].op_type)

    def outputs_of(self, node: str) -> list[str]:
        """Names of a node's floating tensors."""
        values = self._flow.nodes[self._number[node]].outputs
        return [value.name for value in values if value.name and value.dtype in FLOATS]

    def givers(self, node: str) -> list[str]:
        """Names of the nodes whose outputs a node reads."""
        return [self._flow.nodes[index].name or "" for index in self._flow.before[self._number[node]]]

    def readers(self, node: str) -> list[str]:
        """Names of the nodes that read a node's outputs."""
        return [self._flow.nodes[index].name or "" for index in self._flow.after[self._number[node]]]

    def watch(self, nodes: Sequence[str]) -> None:
        """Say which nodes' inputs and outputs :meth:`exact` is to give."""
        entering = boundary(self._flow, [self._number[name] for name in nodes])[0]
        made = [value for name in nodes for value in self._flow.nodes[self._number[name]].outputs]
        inputs = {value.name for value in self._model.graph.inputs}
        wanted = dict.fromkeys(value.name for value in (*entering, *made) if value.name and value.name not in inputs)
        proto = onnx_graph.to_proto(self._model)
        given = {value.name for value in proto.graph.output}
        types = {value.name: value for value in proto.graph.value_info}
        for name in wanted:
            if name not in given:
                proto.graph.output.append(types.get(name) or helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._watched = [*wanted]
        self._session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def exact(self, feed: Mapping[str, Any]) -> dict[str, Array]:
        """The watched tensors and the feed itself, from CPU onnxruntime."""
        values = self._session.run(self._watched, dict(feed))
        self._seen.append({**feed, **dict(zip(self._watched, values, strict=True))})
        return self._seen[-1]

    def probe(self, nodes: Sequence[str]) -> Probe:
        """Open some nodes on the device, every tensor inside an output.

        Raises:
            ConvertError, DeviceError: They cannot be run alone.
        """
        entering, leaving = boundary(self._flow, [self._number[name] for name in nodes])
        inside = [value for name in nodes for value in self._flow.nodes[self._number[name]].outputs if value.name]
        edge = {value.name for value in leaving}
        outputs = [value.name or "" for value in inside if value.dtype in FLOATS or value.name in edge]
        inputs = [value.name or "" for value in entering]
        part = extract(self._model, nodes, inputs, outputs)
        return Probe(self.device, part, self._target, self.precision, self._seen)

    def analysis_request(
        self, nodes: Sequence[str], exact: Sequence[Mapping[str, Array]]
    ) -> tuple[CompileRequest, Mapping[str, str]]:
        """A segment as it is compiled, for the vendor's accuracy analysis, and its inputs' and outputs' own names.

        Args:
            nodes: The segment's.
            exact: Tensors by name; the first sample is what is analysed.
        """
        entering, leaving = boundary(self._flow, [self._number[name] for name in nodes])
        edges = [[value.name or "" for value in values] for values in (entering, leaving)]
        part = lower(extract(self._model, nodes, *edges), find_target(self._target))
        data = _samples(part, exact)
        options: dict[str, Any] = {"analyse": data[0]}
        if self.precision != "fp16":
            options["dataset"] = data
        request = CompileRequest(part.model.read(), self._target, self.precision, options=options)
        return request, part.names


class Probe:
    """A part on the device; quantized ones are calibrated on the exact tensors seen so far."""

    def __init__(
        self, device: Device, part: onnx.ModelProto, target: str, precision: str, seen: Sequence[Mapping[str, Array]]
    ) -> None:
        inputs, outputs = _specs(part.graph.input), _specs(part.graph.output)
        rknn = None
        if needs(device) == {"rknn"} or precision != "fp16":
            rknn = BytesBlob(_compiled(part, target, precision, seen))
        code = SegmentCode("probe", inputs, outputs, target, precision, rknn, BytesBlob(part.SerializeToString()))
        self._inputs = inputs
        self._outputs = [spec.name for spec in outputs]
        self._context = device.open(code)

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Every output, for inputs taken by name out of ``tensors``."""
        arrays = [np.ascontiguousarray(tensors[spec.name], spec.dtype).reshape(spec.shape) for spec in self._inputs]
        found = zip(self._outputs, self._context.run(arrays), strict=True)
        return {name: array for name, array in found if array is not None}

    def close(self) -> None:
        """Give the device its memory back."""
        self._context.close()


def _compiled(part: onnx.ModelProto, target: str, precision: str, seen: Sequence[Mapping[str, Array]]) -> bytes:
    lowered = lower(part, find_target(target))
    data = _samples(lowered, seen)
    options = {} if precision == "fp16" else {"dataset": data}
    return compile_segment(CompileRequest(lowered.model.read(), target, precision, options=options)).rknn


def _samples(lowered: Lowered, seen: Sequence[Mapping[str, Array]]) -> tuple[dict[str, Array], ...]:
    """A lowered part's inputs out of tensors by name, as the compiled code wants them."""
    return tuple(
        {
            name: tensors[lowered.names.get(name, name)].astype(dtype).reshape(shape)
            for name, dtype, shape in lowered.inputs
        }
        for tensors in seen
    )


def _specs(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            value.name,
            np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    )
