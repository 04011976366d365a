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

__all__ = ["CPU", "NPU", "NodePlacement", "Place", "Plan", "Segment", "TensorInfo", "milliseconds"]

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
        estimated_s: What the cost rule expects one inference to take on one NPU core, transfers included.
    """

    name: str
    nodes: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    rel_rms: float | None = None
    max_abs: float | None = None
    seconds: float | None = None
    size: int | None = None
    estimated_s: float | None = None


@frozen
class Plan:
    """The placement of a whole model.

    Attributes:
        target: SoC name.
        precision: ``fp16``, ``int8`` ...
        nodes: Every node of the prepared graph, in topological order.
        segments: The NPU segments, in execution order.
        notes: Sentences about the whole model (passes that changed it, why no NPU is used, ...).
        estimated_cpu_s: What the cost rule expects the nodes on the CPU to take; guesses, whatever the NPU's rest on.
        estimated_by: What the estimates for the NPU rest on: ``records`` (of other owners' boards), ``a guess``, or
            ``measured on this board``.
    """

    target: str
    precision: str
    nodes: tuple[NodePlacement, ...] = ()
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    estimated_cpu_s: float | None = None
    estimated_by: str = ""

    @property
    def estimate(self) -> str:
        """The expected time of one inference in words, ``~9 ms on rk3588, by records``; empty where nothing is known.

        One core, one inference at a time; measured nowhere unless it says so.
        """
        times = [segment.estimated_s for segment in self.segments if segment.estimated_s is not None]
        if not times or len(times) < len(self.segments) or not self.npu_nodes:
            return ""
        source = self.estimated_by if self.estimated_by.startswith("measured") else f"by {self.estimated_by}"
        text = f"~{milliseconds(sum(times))} on {self.target}, {source}"
        cpu_s = self.estimated_cpu_s or 0.0
        # Shown where it matters beside the NPU's time.
        return text if cpu_s < 0.05 * sum(times) else f"{text}, and ~{milliseconds(cpu_s)} on its CPU, by a guess"

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
        return asdict(self) | {"estimate": self.estimate}

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
            estimated_cpu_s=data.get("estimated_cpu_s"),
            estimated_by=data.get("estimated_by", ""),
        )

    def __str__(self) -> str:
        from ort_rknn_converters.partition.plan_table import render

        return render(self)


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds of two digits: an estimate has no more."""
    ms = seconds * 1e3
    return f"{ms:.0f} ms" if ms >= 9.5 else f"{ms:.1f} ms"
