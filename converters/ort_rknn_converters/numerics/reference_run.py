"""One run of a segment on ONNX Runtime that also measures every tensor inside, in as little memory as can be.

The child process that compiles the same segment is at work at the same time, so each copy of the weights counts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import SLOW_S, Run, bounded
from ort_rknn_converters.onnx_file.tensor_types import FLOATS
from ort_rknn_converters.onnx_file.weights import weights_as_inputs

__all__ = ["run_measured", "without_weights"]

Array = NDArray[Any]


def run_measured(
    model: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]]
) -> tuple[list[dict[str, Array]], dict[str, float]]:
    """Run a model on some feeds.

    The magnitudes are taken inside the graph, as one number a tensor and right after it is made, so that the
    activations of a large network need not all be held at once.

    Args:
        model: A standalone model; left as it is.
        feeds: Input name -> array, as the model declares them.

    Returns:
        Per feed, output name -> array; and tensor name -> its largest magnitude over all feeds, for all floating
        tensors that the model's nodes make (infinite where one is NaN).

    Raises:
        ModelError: ONNX Runtime cannot run it.
        RunFailed: It takes too long, or too much memory.
    """
    names = [value.name for value in model.graph.output]
    copy, weights = without_weights(model)
    watched = _measure(copy)
    options = ort.quiet_options()
    # A few runs only: memory matters more than speed (measured: 150 MB less for the 100 MB of ResNet-50).
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.intra_op_num_threads = max(1, (os.cpu_count() or 1) - 1)  # the compiler has one core
    # In the order of the file, which has each measurement right behind what it measures; onnxruntime's own order has
    # them all at the end, when every tensor is alive (measured on YOLOv8n: 500 MB more).
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    peaks = dict.fromkeys(watched, 0.0)
    results = []

    def measure(run: Run) -> None:
        session = ort.on_cpu(copy.SerializeToString(), options)
        for feed in feeds:
            run.next_feed()
            values = session.run(None, weights | dict(feed), run.options)
            results.append(dict(zip(names, values[: len(names)], strict=True)))
            for name, peak in zip(watched, values[len(names) :], strict=True):
                # NaN, too, is more than fp16 can hold; max() would lose it.
                peaks[name] = float("inf") if np.isnan(peak) else max(peaks[name], float(peak))

    with ort.onnxruntime_errors("ONNX Runtime cannot run the segment"):
        bounded(measure, SLOW_S, "the segment")
    return results, peaks


def without_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model with its large weights as inputs, and the weights: onnxruntime reads fed arrays where they lie.

    Models above 2 GB can be run that way, too; what lies in a file of its own is mapped.
    """
    copy, weights = weights_as_inputs(model, types=(TensorProto.FLOAT,))
    return copy, {name: tensor.numpy() for name, tensor in weights.tensors}


def _measure(model: onnx.ModelProto) -> list[str]:
    """Add a scalar output for each floating tensor that the nodes make, its largest magnitude; returns their names."""
    graph = model.graph
    types = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
    nodes: list[onnx.NodeProto] = []
    watched: list[str] = []
    for node in graph.node:
        nodes.append(node)
        for name in node.output:
            kind = types.get(name)
            if kind is None or kind.elem_type not in FLOATS or 0 in _fixed_dims(kind):
                continue
            value, size, peak = (f"ort_rknn.{what}.{len(watched)}" for what in ("value", "size", "peak"))
            if kind.elem_type != TensorProto.FLOAT:
                # onnxruntime's CPU provider has no Abs of the other floating types.
                nodes.append(helper.make_node("Cast", [name], [value], to=TensorProto.FLOAT))
            else:
                value = name
            nodes.append(helper.make_node("Abs", [value], [size]))
            nodes.append(helper.make_node("ReduceMax", [size], [peak], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(peak, TensorProto.FLOAT, []))
            watched.append(name)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return watched


def _fixed_dims(tensor: onnx.TypeProto.Tensor) -> list[int]:
    return [dim.dim_value for dim in tensor.shape.dim if dim.HasField("dim_value")]
