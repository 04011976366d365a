"""Shapes as onnxruntime makes them, for models that ONNX's inference finds contradictory and onnxruntime runs.

Inference is a hint: it gives a short-time Fourier transform 64 bins where there are 33. What a network computes from
data (as NonZero does) has another shape at each run, so runs on different inputs must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ort_rknn_converters.errors import ModelError, RunFailed
from ort_rknn_converters.graph.infer import SEEN
from ort_rknn_converters.graph.onnx_graph import static_shape, to_bytes, to_proto
from ort_rknn_converters.numerics.random_inputs import feeds_for
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import QUICK_S, Run, bounded

__all__ = ["see_shapes"]

_RUNS = 2
_MAY_NOT_END = frozenset({"Loop", "Scan"})


def see_shapes(model: ir.Model) -> str:
    """Run a model on random inputs and give its values the shapes and types they have, in place; inference keeps them.

    Args:
        model: The model. Where an input's shape is open nothing is done: other inputs would give others.

    Returns:
        Why onnxruntime refuses the model; empty where it runs, takes too long for an answer, or was not asked.
    """
    if any(static_shape(value) is None for value in model.graph.inputs if not value.is_initializer()):
        return ""
    if any(node.op_type in _MAY_NOT_END for node in model.graph):
        return ""
    try:
        bare = onnx.ModelProto.FromString(to_bytes(model))
        feeds = feeds_for(to_proto(model), _RUNS)
    except ModelError:
        return ""
    del bare.graph.value_info[:]
    made = {value.name: value for node in model.graph for value in node.outputs if value.name}
    del bare.graph.output[:]
    bare.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    try:
        runs = bounded(lambda run: _runs(run, bare, list(made), feeds), QUICK_S, "the whole model")
    except RunFailed:
        return ""
    except Exception as error:  # onnxruntime raises a class of its own per kind of fault
        return str(error)
    for position, value in enumerate(made.values()):
        arrays = [run[position] for run in runs]
        if all(isinstance(array, np.ndarray) for array in arrays) and len({array.shape for array in arrays}) == 1:
            value.shape = ir.Shape(arrays[0].shape)
            value.meta[SEEN] = True
            if value.type is None and arrays[0].dtype != object:
                value.type = ir.TensorType(ir.DataType.from_numpy(arrays[0].dtype))
    return ""


def _runs(run: Run, model: onnx.ModelProto, names: list[str], feeds: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    session = ort.on_cpu(model.SerializeToString(), ort.quiet_options())
    results = []
    for feed in feeds:
        run.next_feed()
        results.append(session.run(names, dict(feed), run.options))
    return results
