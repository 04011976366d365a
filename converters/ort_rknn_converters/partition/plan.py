"""The plan: which node runs where, in which segment, and why, as values and as text; `partition` makes it.

``print(plan)`` is the table a user reads, ``plan.to_json()`` the same for machines.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from typing import TYPE_CHECKING, Any, Literal

from ort_rknn_converters.partition.plan_form import PLAN
from ort_rknn_converters.partition.whole_model import WholeModel
from ort_rknn_converters.tensor_info import TensorInfo
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.frozen import frozen, replace

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["CPU", "NPU", "NodePlacement", "Place", "Plan", "Segment", "render_plan", "size_text"]

Place = Literal["NPU", "CPU"]
NPU: Place = "NPU"
CPU: Place = "CPU"

_WIDTH = 100
_REASON = 2000  # characters of a sentence that is shown
_TYPES = {"float": "float32", "double": "float64"}


@frozen
class NodePlacement:
    """Place of one node.

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
        values: Inputs that are taken for constants, name -> value as JSON text: NPU code is for those only.
        notes: Sentences about the whole model (passes that changed it, why no NPU is used, ...).
        estimated_cpu_s: What the cost rule expects the nodes on the CPU to take; guesses, whatever the NPU's rest on.
        estimated_by: What the estimates for the NPU rest on: ``records`` (of other owners' boards), ``a guess``, or
            ``measured on this board``.
        whole: How right the whole compiled model is; ``None`` where that was not measured.
        mostly: Reason that keeps most of the CPU's work there, by the cost rule's estimate; empty without one.
    """

    target: str
    precision: str
    nodes: tuple[NodePlacement, ...] = ()
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    estimated_cpu_s: float | None = None
    estimated_by: str = ""
    whole: WholeModel | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    mostly: str = ""

    @property
    def main_reason(self) -> str:
        """Reason that weighs most for what is on the CPU: by work where that is known, else by nodes."""
        return self.mostly or next(iter(self.cpu_reasons()), "")

    @property
    def estimate(self) -> str:
        """The expected time of one inference in words, ``~9 ms on rk3588, by records``; empty where nothing is known.

        One core, one inference at a time; measured nowhere unless it says so.
        """
        times = [segment.estimated_s for segment in self.segments if segment.estimated_s is not None]
        if not times or len(times) < len(self.segments) or not self.npu_nodes:
            return ""
        source = self.estimated_by if self.estimated_by.startswith("measured") else f"by {self.estimated_by}"
        text = f"~{_milliseconds(sum(times))} on {self.target}, {source}"
        cpu_s = self.estimated_cpu_s or 0.0
        # Shown where it matters beside the NPU's time.
        return text if cpu_s < 0.05 * sum(times) else f"{text}, and ~{_milliseconds(cpu_s)} on its CPU, by a guess"

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
        """Returns the plan with more notes."""
        return replace(self, notes=self.notes + notes)

    def on_cpu(self, reason: str) -> Plan:
        """Returns the plan with no segment on an NPU, and why; what was compiled is still listed."""
        nodes = tuple(node if node.place == CPU else replace(node, place=CPU, reason=reason) for node in self.nodes)
        return replace(self, nodes=nodes, mostly=reason)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what :meth:`from_dict` takes."""
        return asdict(self) | {"estimate": self.estimate}

    def to_json(self, *, indent: int | None = 2) -> str:
        """The plan as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: The data are not those of a plan; the message says where.
        """
        PLAN(data)
        return cls(
            target=data["target"],
            precision=data["precision"],
            nodes=tuple(NodePlacement(**row) for row in data["nodes"]),
            segments=tuple(
                Segment(
                    **{
                        **row,
                        "nodes": tuple(row["nodes"]),
                        "inputs": TensorInfo.from_dicts(row["inputs"]),
                        "outputs": TensorInfo.from_dicts(row["outputs"]),
                    }
                )
                for row in data["segments"]
            ),
            notes=tuple(data.get("notes", ())),
            estimated_cpu_s=data.get("estimated_cpu_s"),
            estimated_by=data.get("estimated_by", ""),
            whole=WholeModel.from_dict(data["whole"]) if data.get("whole") else None,
            values=dict(data.get("values", {})),
            mostly=data.get("mostly", ""),
        )

    def __str__(self) -> str:
        return render_plan(self)

    def __repr__(self) -> str:
        said = _headline(self) or (f"nothing is placed: {self.notes[0]}" if self.notes else "empty")
        return f"<Plan {said}; print() shows it>"


def render_plan(plan: Plan, *, nodes: bool = False, width: int = _WIDTH) -> str:
    """Render a plan.

    Args:
        plan: The plan.
        nodes: Add the list of every node with its place (``--explain``).
        width: Columns to fill at most.

    Returns:
        Several lines of text without colour, no newline at the end.
    """
    first = list(filter(None, (_headline(plan), plan.estimate)))
    line = ", ".join(first)
    sections = [line if len(line) <= width else "\n".join(first)]
    if plan.segments:
        sections.append(_table(_segments(plan), width))
    if any(node.place == CPU for node in plan.nodes):
        sections.append(_table(_reasons(plan), width))
    if nodes and plan.nodes:
        sections.append(_table(_every_node(plan), width))
    if plan.whole is not None:
        sections.append(_whole(plan.whole))
    if plan.notes:
        sections.append("\n".join(f"note: {shown(note, _REASON)}" for note in plan.notes))
    return "\n\n".join(filter(None, sections))


def size_text(size: int) -> str:
    """Bytes in words: ``2.0 GB``, ``1.5 MB``, ``30 kB``, ``700 bytes``."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    if size >= 1e6:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.0f} kB" if size >= 1e3 else f"{size} bytes"


def _headline(plan: Plan) -> str:
    total = len(plan.nodes)
    where = f"{plan.target} {plan.precision}".strip() + ": "
    if not total and plan.notes:  # which say why nothing was placed, or is compiled yet
        return where + "nothing is placed" if plan.target else ""
    if not total:
        return where + "a model without nodes"
    if not plan.segments:
        return where + f"all {_count(total, 'node')} on the CPU"
    segments = _count(len(plan.segments), "segment")
    if plan.npu_nodes == total:
        return where + f"all {_count(total, 'node')} on the NPU, in {segments}"
    share = f"{100 * plan.npu_share:.0f} %"
    return where + f"{plan.npu_nodes} of {_count(total, 'node')} ({share}) on the NPU, in {segments}"


def _whole(whole: WholeModel) -> str:
    """The whole model's line; what is wrong comes first, and stands out."""
    error = "" if whole.rel_rms is None else f"relative RMS error {whole.rel_rms:.1e}"
    said = "right on random inputs" if not whole.problem else f"not right: {shown(whole.problem, _REASON)}"
    lines = [f"whole model: {', '.join(filter(None, (said, error)))}"]
    return "\n".join([*lines, *(f"whole model: {shown(other, _REASON)}" for other in whole.others)])


def _segments(plan: Plan) -> Table:
    measured = any(segment.rel_rms is not None for segment in plan.segments)
    compiled = any(segment.size is not None for segment in plan.segments)
    estimated = any(segment.estimated_s is not None for segment in plan.segments)
    table = _new_table()
    table.add_column("segment", no_wrap=True)
    table.add_column("nodes", justify="right", no_wrap=True)
    table.add_column("in", overflow="fold")
    table.add_column("out", overflow="fold")
    if estimated:
        table.add_column("run", justify="right", no_wrap=True)
    if compiled:
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("size", justify="right", no_wrap=True)
    if measured:
        table.add_column("rel RMS", justify="right", no_wrap=True)
    for segment in plan.segments:
        row = [segment.name, str(len(segment.nodes)), _tensors(segment.inputs), _tensors(segment.outputs)]
        if estimated:
            row.append("" if segment.estimated_s is None else f"~{_milliseconds(segment.estimated_s)}")
        if compiled:
            row += [_seconds(segment.seconds), _size(segment.size)]
        if measured:
            row.append(_error(segment))
        table.add_row(*row)
    return table


def _reasons(plan: Plan) -> Table:
    table = _new_table()
    table.add_column("on the CPU", justify="right", no_wrap=True)
    table.add_column("because", overflow="fold")
    table.add_column("which", overflow="fold")
    for reason, placed in plan.cpu_reasons().items():
        table.add_row(_count(len(placed), "node"), shown(reason, _REASON) or "no reason given", _ops(placed))
    return table


def _every_node(plan: Plan) -> Table:
    table = _new_table()
    table.add_column("node", overflow="fold")
    table.add_column("op", no_wrap=True)
    table.add_column("place", no_wrap=True)
    table.add_column("why not the NPU", overflow="fold")
    for node in plan.nodes:
        table.add_row(shown(node.name), shown(node.op_type), node.segment or node.place, shown(node.reason, _REASON))
    return table


def _new_table() -> Table:
    from rich import box  # not at the start of a session
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)


def _table(table: Table, width: int) -> str:
    from rich.console import Console

    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, markup=False, highlight=False
    )
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def _tensors(values: Sequence[TensorInfo], most: int = 4) -> str:
    lines = [_tensor(value) for value in values[:most]]
    if len(values) > most:
        lines.append(f"and {len(values) - most} more")
    return "\n".join(lines)


def _tensor(value: TensorInfo) -> str:
    kind = value.dtype.removeprefix("tensor(").removesuffix(")")
    dims = "x".join("?" if dim is None else str(dim) for dim in value.shape)
    return f"{_shortened(value.name)} {shown(_TYPES.get(kind, kind))}[{shown(dims)}]"


def _shortened(name: str, most: int = 40) -> str:
    return shown(name, most)


def _ops(placed: Sequence[NodePlacement]) -> str:
    if len(placed) <= 2:
        return ", ".join(f"{shown(node.op_type)} {_shortened(node.name)}" for node in placed)
    counts = Counter(shown(node.op_type) for node in placed).most_common()
    text = ", ".join(op if count == 1 else f"{count} {op}" for op, count in counts[:5])
    return text if len(counts) <= 5 else f"{text} ..."


def _error(segment: Segment) -> str:
    return "not verified" if segment.rel_rms is None else f"{segment.rel_rms:.1e}"


def _milliseconds(seconds: float) -> str:
    """Returns milliseconds of two digits: an estimate has no more."""
    ms = seconds * 1e3
    return f"{ms:.0f} ms" if ms >= 9.5 else f"{ms:.1f} ms"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _size(size: int | None) -> str:
    return "" if size is None else size_text(size)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
