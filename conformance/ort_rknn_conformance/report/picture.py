"""The placement picture: a model's graph from top to bottom as SVG, each node in its place's colour.

Nodes stand in layers by their longest way from the inputs. Large graphs are drawn by parts, too: each segment and each
run of CPU nodes is one box. Colours come from the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ort_rknn_conformance.result import GraphNode
from ort_rknn_converters.util.foreign_text import html
from ort_rknn_converters.util.frozen import frozen, replace

__all__ = ["draw", "draw_parts"]

_LONGEST = 1000  # characters of a box's title
LARGE = 400  # nodes above which only parts are drawn: more boxes no one can read (a guess)
WIDTH, HEIGHT, GAP_X, GAP_Y = 148, 30, 14, 26


@frozen
class _Box:
    """Text of one box, and the boxes above it."""

    label: str
    title: str
    place: str
    after: tuple[int, ...]
    bad: bool = False


def draw(nodes: Sequence[GraphNode], bad: Collection[str] = ()) -> str:
    """The graph as an ``<svg>`` element; empty for no nodes, and for more than anyone can read.

    Args:
        nodes: In the plan's order.
        bad: Names of nodes that are to stand out: where the errors begin.
    """
    if not nodes or len(nodes) > LARGE:
        return ""
    return _drawn([_box(node, node.name in bad) for node in nodes], len(nodes))


def draw_parts(nodes: Sequence[GraphNode], bad: Collection[str] = ()) -> str:
    """Draws one box for each segment and each run of CPU nodes."""
    return _drawn(_parts(nodes, bad), len(nodes)) if nodes else ""


def _drawn(boxes: list[_Box], count: int) -> str:
    boxes = _chained(boxes)
    spots = _layout(boxes)
    columns = max(x for x, _ in spots) + 1
    rows = max(y for _, y in spots) + 1
    width = round(columns * (WIDTH + GAP_X) + GAP_X)
    height = round(rows * (HEIGHT + GAP_Y) + GAP_Y)
    lines, rects = [], []
    for number, box in enumerate(boxes):
        left, top = _corner(spots[number])
        for giver in box.after:
            from_x, from_y = _corner(spots[giver])
            x1, y1, x2, y2 = from_x + WIDTH / 2, from_y + HEIGHT, left + WIDTH / 2, top
            bend = (y2 - y1) / 2
            crossing = " crossing" if boxes[giver].place != box.place else ""
            lines.append(
                f'<path class="edge{crossing}" d="M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} '
                f'{x2:g} {y2:g}"/>'
            )
        ill = " bad" if box.bad else ""
        side = "npu" if box.place == "NPU" else "cpu"
        rects.append(
            f'<g class="node {side}{ill}"><title>{html(box.title, _LONGEST)}</title>'
            f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>'
            f'<text x="{left + WIDTH / 2:g}" y="{top + HEIGHT / 2 + 4:g}">{html(_short(box.label))}</text></g>'
        )
    return (
        f'<svg class="graph" role="img" aria-label="placement of {count} nodes" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">{"".join(lines)}{"".join(rects)}</svg>'
    )


def _box(node: GraphNode, bad: bool) -> _Box:
    where = f"NPU, {node.segment}" if node.segment else f"CPU: {node.reason}"
    return _Box(node.op_type.rpartition(".")[2], f"{node.op_type} {node.name}\n{where}", node.place, node.after, bad)


def _parts(nodes: Sequence[GraphNode], bad: Collection[str]) -> list[_Box]:
    """One box a segment, and one a run of CPU nodes in the plan's order."""
    home: list[int] = []
    members: list[list[int]] = []
    segments: dict[str, int] = {}
    previous: str | None = ""
    for number, node in enumerate(nodes):
        if node.segment is not None:
            part = segments.setdefault(node.segment, len(members))
        elif previous is None:
            part = home[-1]
        else:
            part = len(members)
        if part == len(members):
            members.append([])
        members[part].append(number)
        home.append(part)
        previous = node.segment
    boxes = []
    for part, inside in enumerate(members):
        first = nodes[inside[0]]
        givers = {home[giver] for number in inside for giver in nodes[number].after} - {part}
        ops = sorted({nodes[number].op_type for number in inside})
        name = first.segment or "CPU"
        ill = [nodes[number].name for number in inside if nodes[number].name in bad]
        title = "\n".join((name, ", ".join(ops), *ill))
        many = f"{len(inside)} node{'s' * (len(inside) > 1)}"
        boxes.append(_Box(f"{name}: {many}", title, first.place, tuple(givers), bool(ill)))
    return boxes


def _chained(boxes: list[_Box]) -> list[_Box]:
    """Only edges that point down; without any edges, the order of the plan."""
    if len(boxes) > 1 and not any(box.after for box in boxes):
        return [replace(box, after=(number - 1,) if number else ()) for number, box in enumerate(boxes)]
    return [
        replace(box, after=tuple(giver for giver in box.after if giver < number)) for number, box in enumerate(boxes)
    ]


def _layout(boxes: Sequence[_Box]) -> list[tuple[float, int]]:
    """Column and row of each box: rows by depth, columns near the mean of what stands above."""
    depth: list[int] = []
    for box in boxes:
        depth.append(1 + max((depth[giver] for giver in box.after), default=-1))
    rows: dict[int, list[int]] = {}
    for number, row in enumerate(depth):
        rows.setdefault(row, []).append(number)
    widest = max(len(row) for row in rows.values())
    column = [0.0] * len(boxes)
    for row in range(max(depth) + 1):
        inside = rows[row]
        middle = (widest - 1) / 2

        def wish(number: int, middle: float = middle) -> float:
            above = [column[giver] for giver in boxes[number].after]
            return sum(above) / len(above) if above else middle

        inside.sort(key=wish)
        # as near to the wishes as fits: the row as a block around the mean of them
        mean = sum(wish(number) for number in inside) / len(inside)
        start = min(max(0.0, mean - (len(inside) - 1) / 2), widest - len(inside))
        for place, number in enumerate(inside):
            column[number] = start + place
    return [(column[number], depth[number]) for number in range(len(boxes))]


def _corner(spot: tuple[float, int]) -> tuple[float, float]:
    return GAP_X + spot[0] * (WIDTH + GAP_X), GAP_Y / 2 + spot[1] * (HEIGHT + GAP_Y)


def _short(label: str) -> str:
    return label if len(label) <= 20 else f"{label[:19]}…"
