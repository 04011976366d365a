"""Computes constant parts of a graph with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from ort_rknn_converters.errors import RunFailed
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import QUICK_S, bounded

__all__ = ["NATIVE", "evaluate"]

NATIVE = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.FLOAT16,
        ir.DataType.BOOL,
        ir.DataType.INT8,
        ir.DataType.INT16,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT8,
        ir.DataType.UINT16,
        ir.DataType.UINT32,
        ir.DataType.UINT64,
    }
)
"""Element types that pass through numpy arrays unchanged."""


def evaluate(
    nodes: Sequence[ir.Node],
    wanted: Iterable[ir.Value],
    opset_imports: Mapping[str, int],
    endless: set[ir.Node] | None = None,
) -> dict[ir.Value, np.ndarray]:
    """Compute values that depend on constants only.

    All nodes are run in one session; if ONNX Runtime refuses that, each is run alone, and what it cannot run (or what
    depends on it) is missing from the answer. What takes too long, or too much memory, is not waited for.

    Args:
        nodes: Nodes without bodies, in topological order; each input is a constant of :data:`NATIVE` type or made by
            an earlier node.
        wanted: The values to return.
        opset_imports: The model's.
        endless: Gets the nodes that were given up.
    """
    targets = list(wanted)
    try:
        return _run(nodes, targets, {}, opset_imports)
    except Exception:  # onnxruntime's classes share no base below Exception
        known: dict[ir.Value, np.ndarray] = {}
        for node in nodes:
            made = [value for value in node.outputs if value.name]
            if all(_constant_array(value, known) is not None for value in node.inputs if value is not None):
                try:
                    known.update(_run([node], made, known, opset_imports))
                except RunFailed:
                    if endless is not None:
                        endless.add(node)
                except Exception:
                    continue
        return {value: known[value] for value in targets if value in known}


def _run(
    nodes: Sequence[ir.Node],
    wanted: Sequence[ir.Value],
    known: Mapping[ir.Value, np.ndarray],
    opset_imports: Mapping[str, int],
) -> dict[ir.Value, np.ndarray]:
    made = {value for node in nodes for value in node.outputs}
    feed: dict[str, np.ndarray] = {}
    protos = []
    # Names are made up: the values may come from several bodies that use the same ones.
    names: dict[ir.Value, str] = {}

    def name_of(value: ir.Value | None) -> str:
        return "" if value is None else names.setdefault(value, f"v{len(names)}")

    for node in nodes:
        proto = ir.serde.serialize_node(node)
        proto.input[:] = [name_of(value) for value in node.inputs]
        proto.output[:] = [name_of(value) for value in node.outputs]
        protos.append(proto)
        for value in node.inputs:
            if value is not None and value not in made:
                array = _constant_array(value, known)
                assert array is not None
                feed[name_of(value)] = array
    graph = onnx.helper.make_graph(
        protos,
        "constants",
        [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feed.items()
        ],
        [onnx.ValueInfoProto(name=name_of(value)) for value in wanted],
    )
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opset_imports.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)

    options = ort.quiet_options("ORT_DISABLE_ALL")
    options.intra_op_num_threads = 1
    content, names_wanted = model.SerializeToString(), [name_of(value) for value in wanted]
    results = bounded(
        lambda run: ort.on_cpu(content, options).run(names_wanted, feed, run.options), QUICK_S, "what is constant"
    )
    return dict(zip(wanted, results, strict=True))


def _constant_array(value: ir.Value, known: Mapping[ir.Value, np.ndarray]) -> np.ndarray | None:
    if value in known:
        return known[value]
    tensor = onnx_graph.constant(value)
    return None if tensor is None else np.asarray(tensor.numpy(), order="C")
