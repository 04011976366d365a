"""Runs a whole prepared model on ONNX Runtime: exactly, or with some of its nodes rounded as an NPU rounds them.

One graph for both: a rounded node has a pair of casts behind it, float -> float16 -> float, and reads rounded weights,
by the rule of :mod:`ort_rknn_converters.numerics.fp16_rounding`. Large weights are fed where they lie, the rounded
ones in two bytes each, so that a conversion needs little more memory for it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.errors import ModelError, RunFailed
from ort_rknn_converters.graph.dataflow import reads
from ort_rknn_converters.graph.extract import extract
from ort_rknn_converters.graph.onnx_graph import constant
from ort_rknn_converters.numerics.random_inputs import feeds_for
from ort_rknn_converters.numerics.tolerance import softmax_outputs
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import QUICK_S, Run, bounded

__all__ = ["WholeRun"]

Feed = Mapping[str, NDArray[Any]]

_ROUNDED = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


class WholeRun:
    """Runs of one prepared model.

    Args:
        model: The model, with fixed shapes; it is not changed while this is used.

    Raises:
        ModelError: It cannot be written as one ONNX model.
    """

    def __init__(self, model: ir.Model) -> None:
        self.weights: dict[str, NDArray[Any]] = {}
        nodes = [node.name or "" for node in model.graph]
        made = {value for node in model.graph for value in node.outputs}
        self.outputs = tuple(value.name or "" for value in model.graph.outputs if value in made)
        inputs = [value.name or "" for value in model.graph.inputs if constant(value) is None]
        self._light = extract(model, nodes, inputs, self.outputs, apart=self.weights)
        self._kinds = {value.name: value.dtype for value in made if value.dtype in _ROUNDED}
        self.after_softmax = softmax_outputs(self._light)
        self._reads = {node.name: [value.name or "" for value in reads(node)] for node in model.graph}
        self._makers = {value.name: value.producer() for value in made}
        self._halves: dict[str, NDArray[Any]] = {}

    def feeds(self, count: int, seed: int) -> tuple[dict[str, NDArray[Any]], ...]:
        """Random feeds of the whole model; raises :class:`ModelError` when none can be made."""
        return feeds_for(self._light, count, seed, weights=self.weights)

    def exact(
        self, feeds: Sequence[Feed], names: Sequence[str] | None = None, known: Sequence[Feed] | None = None
    ) -> list[dict[str, Any]]:
        """Values that ONNX Runtime computes.

        Args:
            feeds: Inputs of the whole model.
            names: Values that nodes make; the model's outputs when ``None``.
            known: Values inside that need not be computed again, per feed, the same ones for all feeds.

        Returns:
            Per feed, name -> array.

        Raises:
            ModelError: ONNX Runtime cannot run the model on these feeds.
        """
        given = known[0] if known else {}
        wanted = [name for name in (self.outputs if names is None else names) if name not in given]
        found: list[dict[str, Any]] = [{} for _ in feeds]
        if wanted:
            light = onnx.ModelProto()
            light.CopyFrom(self._light)
            needed = self._needed(wanted, given)
            _keep(light.graph, needed, wanted, given)
            full = [{**feed, **more} for feed, more in zip(feeds, known, strict=True)] if known else feeds
            found = _run(light, self.weights, full, "ORT_ENABLE_ALL")
        for values, more in zip(found, known or (), strict=False):
            values.update({name: more[name] for name in (self.outputs if names is None else names) if name in more})
        return found

    def rounded(self, nodes: Collection[str], feeds: Sequence[Feed]) -> list[dict[str, Any]]:
        """The model's outputs when these nodes run on an NPU, per feed; raises :class:`ModelError`, as :meth:`exact`.

        Args:
            nodes: Names of nodes.
            feeds: Inputs of the whole model.
        """
        light, halves = self._rounded(frozenset(nodes))
        return _run(light, self.weights | halves, feeds, "ORT_DISABLE_ALL")

    def _needed(self, wanted: Sequence[str], given: Feed) -> set[str]:
        """Names of the nodes that some values come from, those behind given values left out."""
        needed: set[str] = set()
        waiting = list(wanted)
        while waiting:
            name = waiting.pop()
            node = None if name in given else self._makers.get(name)
            if node is not None and (node.name or "") not in needed:
                needed.add(node.name or "")
                waiting += self._reads[node.name]
        return needed

    def _rounded(self, nodes: Collection[str]) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
        light = onnx.ModelProto()
        light.CopyFrom(self._light)
        graph = light.graph
        small = {tensor.name: tensor for tensor in graph.initializer}
        before: dict[str, onnx.NodeProto | None] = {}
        halves: dict[str, NDArray[Any]] = {}
        kept: list[onnx.NodeProto] = []
        for node in self._light.graph.node:
            mine = onnx.NodeProto()
            mine.CopyFrom(node)
            if node.name not in nodes:
                kept.append(mine)
                continue
            for place, name in enumerate(node.input):
                if name in self.weights and self._has_rows(name):
                    mine.input[place] = rounded = f"{name}/fp16"
                    halves[f"{name}/half"] = self._half(name)
                    before[rounded] = helper.make_node("Cast", [f"{name}/half"], [rounded], to=TensorProto.FLOAT)
                elif name in small and len(small[name].dims) > 1 and small[name].data_type in _ROUNDED:
                    mine.input[place] = rounded = f"{name}/fp16"
                    if rounded not in before:
                        array = numpy_helper.to_array(small[name])
                        graph.initializer.append(numpy_helper.from_array(_as_half(array).astype(array.dtype), rounded))
                        before[rounded] = None
            kept.append(mine)
            for place, name in enumerate(node.output):
                if kind := self._kinds.get(name):
                    raw, half = f"{name}/exact", f"{name}/as half"
                    mine.output[place] = raw
                    kept.append(helper.make_node("Cast", [raw], [half], to=TensorProto.FLOAT16))
                    kept.append(helper.make_node("Cast", [half], [name], to=int(kind)))
        del graph.node[:]
        graph.node.extend(cast for cast in before.values() if cast is not None)
        graph.node.extend(kept)
        graph.input.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT16, array.shape) for name, array in halves.items()
        )
        return light, halves

    def _has_rows(self, name: str) -> bool:
        array = self.weights[name]
        return array.ndim > 1 and array.dtype == np.float32

    def _half(self, name: str) -> NDArray[Any]:
        if name not in self._halves:
            self._halves[name] = _as_half(self.weights[name])
        return self._halves[name]


def _keep(graph: onnx.GraphProto, nodes: Collection[str], wanted: Sequence[str], given: Feed) -> None:
    """Leave some nodes of a graph, with some values as inputs and others as outputs."""
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node if n.name in nodes or not n.name]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.output[:]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    )


def _as_half(array: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # overflow gives infinity, as on the NPU
        return array.astype(np.float16)


def _run(
    model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]], feeds: Sequence[Feed], level: str
) -> list[dict[str, Any]]:
    options = ort.quiet_options(level)
    # A few runs, beside the compiler: memory matters more than speed.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.intra_op_num_threads = max(1, (os.cpu_count() or 1) - 1)
    names = [value.name for value in model.graph.output]

    def compute(run: Run) -> list[dict[str, Any]]:
        session = ort.on_cpu(model.SerializeToString(), options)
        found = []
        for feed in feeds:
            run.next_feed()
            found.append(dict(zip(names, session.run(names, {**weights, **feed}, run.options), strict=True)))
        return found

    try:
        return bounded(compute, QUICK_S, "the whole model")
    except RunFailed:
        raise
    except Exception as error:  # onnxruntime raises a class of its own per kind of fault
        raise ModelError(f"ONNX Runtime cannot run the whole model on random inputs: {error}") from error
