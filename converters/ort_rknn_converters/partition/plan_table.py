"""The plan as text: what ``print(plan)`` shows, readable in 100 columns without colour."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from ort_rknn_converters.partition.plan import CPU, NodePlacement, Plan, Segment, TensorInfo, milliseconds

__all__ = ["render", "size_text"]

_WIDTH = 100
_TYPES = {"float": "float32", "double": "float64"}


def render(plan: Plan, *, nodes: bool = False, width: int = _WIDTH) -> str:
    """Render a plan.

    Args:
        plan: The plan.
        nodes: Add the list of every node with its place (``--explain``).
        width: Columns to fill at most.

    Returns:
        Several lines of text without colour, no newline at the end.
    """
    pieces = [", ".join(filter(None, (_headline(plan), plan.estimate)))]
    if plan.segments:
        pieces.append(_table(_segments(plan), width))
    if any(node.place == CPU for node in plan.nodes):
        pieces.append(_table(_reasons(plan), width))
    if nodes and plan.nodes:
        pieces.append(_table(_every_node(plan), width))
    if plan.notes:
        pieces.append("\n".join(f"note: {note}" for note in plan.notes))
    return "\n\n".join(filter(None, pieces))


def size_text(size: int) -> str:
    """Bytes in words: ``2.0 GB``, ``1.5 MB``, ``30 kB``, ``700 bytes``."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    if size >= 1e6:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.0f} kB" if size >= 1e3 else f"{size} bytes"


def _headline(plan: Plan) -> str:
    total = len(plan.nodes)
    where = f"{plan.target} {plan.precision}: "
    if not total:
        # Where nothing was placed, or is compiled yet, the notes say why.
        return where.rstrip(": ") if plan.notes else where + "a model without nodes"
    if not plan.segments:
        return where + f"all {_count(total, 'node')} on the CPU"
    segments = _count(len(plan.segments), "segment")
    if plan.npu_nodes == total:
        return where + f"all {_count(total, 'node')} on the NPU, in {segments}"
    share = f"{100 * plan.npu_share:.0f} %"
    return where + f"{plan.npu_nodes} of {_count(total, 'node')} ({share}) on the NPU, in {segments}"


def _segments(plan: Plan) -> Table:
    measured = any(segment.rel_rms is not None for segment in plan.segments)
    compiled = any(segment.size is not None for segment in plan.segments)
    table = _new_table()
    table.add_column("segment", no_wrap=True)
    table.add_column("nodes", justify="right", no_wrap=True)
    table.add_column("in", overflow="fold")
    table.add_column("out", overflow="fold")
    estimated = any(segment.estimated_s is not None for segment in plan.segments)
    if estimated:
        table.add_column("run", justify="right", no_wrap=True)
    if compiled:
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("size", justify="right", no_wrap=True)
    if measured:
        table.add_column("error", justify="right", no_wrap=True)
    for segment in plan.segments:
        row = [segment.name, str(len(segment.nodes)), _tensors(segment.inputs), _tensors(segment.outputs)]
        if estimated:
            row.append("" if segment.estimated_s is None else f"~{milliseconds(segment.estimated_s)}")
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
        table.add_row(_count(len(placed), "node"), reason or "no reason given", _ops(placed))
    return table


def _every_node(plan: Plan) -> Table:
    table = _new_table()
    table.add_column("node", overflow="fold")
    table.add_column("op", no_wrap=True)
    table.add_column("place", no_wrap=True)
    table.add_column("why not the NPU", overflow="fold")
    for node in plan.nodes:
        table.add_row(node.name, node.op_type, node.segment or node.place, node.reason)
    return table


def _new_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)


def _table(table: Table, width: int) -> str:
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
    return f"{_shortened(value.name)} {_TYPES.get(kind, kind)}[{dims}]"


def _shortened(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}..{name[1 - most // 2 :]}"


def _ops(placed: Sequence[NodePlacement]) -> str:
    if len(placed) <= 2:
        return ", ".join(f"{node.op_type} {_shortened(node.name)}" for node in placed)
    counts = Counter(node.op_type for node in placed).most_common()
    text = ", ".join(op if count == 1 else f"{count} {op}" for op, count in counts[:5])
    return text if len(counts) <= 5 else f"{text} ..."


def _error(segment: Segment) -> str:
    return "not verified" if segment.rel_rms is None else f"{segment.rel_rms:.1e}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _size(size: int | None) -> str:
    return "" if size is None else size_text(size)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
