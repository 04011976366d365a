"""The plan: which node runs where, in which segment, and why. Values only; `partition` makes it.

``print(plan)`` is the table a user reads, ``plan.to_json()`` the same for machines.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from ort_rknn_converters.util.frozen import frozen

__all__ = ["CPU", "NPU", "NodePlacement", "Place", "Plan", "Segment", "TensorInfo"]

Place = Literal["NPU", "CPU"]
NPU: Place = "NPU"
CPU: Place = "CPU"


@frozen
class TensorInfo:
    """Name, ONNX element type and shape of a value that crosses a segment's boundary.

    Attributes:
        name: The ONNX value's name.
        dtype: onnxruntime's spelling, e.g. ``tensor(float)``, ``tensor(int64)``.
        shape: Dimensions: a number, a symbol's name, or ``None`` where unknown. An NPU segment has numbers only.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@frozen
class NodePlacement:
    """Where one node runs.

    Attributes:
        name: The node's name, unique in the prepared graph.
        op_type: ``Conv`` ..., with the domain in front where it is not the standard's own.
        place: ``NPU`` or ``CPU``.
        reason: Why not the NPU, in words; empty on the NPU.
        segment: Name of its NPU segment, or ``None``.
    """

    name: str
    op_type: str
    place: Place
    reason: str = ""
    segment: str | None = None


@frozen
class Segment:
    """One part of the graph that is compiled for the NPU as a whole.

    Attributes:
        name: ``npu_0``, ``npu_1`` ... in execution order.
        nodes: Names of its nodes, in topological order.
        inputs: Values it reads that are not constants.
        outputs: Values it gives to other parts or to the caller.
        rel_rms: Relative RMS error of the toolkit's simulator against ONNX Runtime, worst output; ``None`` before
            verification.
        max_abs: Largest absolute difference seen in verification.
        seconds: Compilation time.
        size: Bytes of the compiled code.
    """

    name: str
    nodes: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    rel_rms: float | None = None
    max_abs: float | None = None
    seconds: float | None = None
    size: int | None = None


@frozen
class Plan:
    """The placement of a whole model.

    Attributes:
        target: SoC name.
        precision: ``fp16``, ``int8`` ...
        nodes: Every node of the prepared graph, in topological order.
        segments: The NPU segments, in execution order.
        notes: Sentences about the whole model (passes that changed it, why no NPU is used, ...).
    """

    target: str
    precision: str
    nodes: tuple[NodePlacement, ...] = ()
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def npu_nodes(self) -> int:
        """Number of nodes on the NPU."""
        return sum(node.place == NPU for node in self.nodes)

    @property
    def npu_share(self) -> float:
        """Share of nodes on the NPU, 0 to 1 (0 for a model without nodes)."""
        return self.npu_nodes / len(self.nodes) if self.nodes else 0.0

    def cpu_reasons(self) -> dict[str, list[NodePlacement]]:
        """The nodes left on the CPU, grouped by reason, most frequent first."""
        counts = Counter(node.reason for node in self.nodes if node.place == CPU)
        return {
            reason: [node for node in self.nodes if node.place == CPU and node.reason == reason]
            for reason, _ in counts.most_common()
        }

    def with_notes(self, *notes: str) -> Plan:
        """This plan with more notes."""
        return replace(self, notes=self.notes + notes)

    def on_cpu(self, reason: str) -> Plan:
        """This plan where no segment runs on an NPU, and why; what was compiled is still listed."""
        nodes = tuple(node if node.place == CPU else replace(node, place=CPU, reason=reason) for node in self.nodes)
        return replace(self, nodes=nodes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what :meth:`from_dict` takes."""
        return asdict(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """The plan as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of :meth:`to_dict`."""

        def tensors(rows: list[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
            return tuple(TensorInfo(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)

        return cls(
            target=data["target"],
            precision=data["precision"],
            nodes=tuple(NodePlacement(**row) for row in data["nodes"]),
            segments=tuple(
                Segment(
                    **{
                        **row,
                        "nodes": tuple(row["nodes"]),
                        "inputs": tensors(row["inputs"]),
                        "outputs": tensors(row["outputs"]),
                    }
                )
                for row in data["segments"]
            ),
            notes=tuple(data.get("notes", ())),
        )

    def __str__(self) -> str:
        from ort_rknn_converters.partition.plan_table import render

        return render(self)
