"""Cutting a graph into acyclic, maximal clusters of NPU nodes, in near-linear time.

Every node gets a *phase*: how often the data changes from NPU to CPU on its way there. Connected NPU nodes of one phase
are a cluster, and no path between two of them can leave it, for the phase would grow. That is one sweep. A second one
merges clusters that touch and have no way round between them, as when a branch was ready long before its partner.
"""

from __future__ import annotations

from collections.abc import Sequence

from ort_rknn_converters.graph.dataflow import DataFlow

__all__ = ["cut", "steps"]

# Visits the merging sweep may spend for each node. Real graphs need two or three (measured on benchmarks/models.py);
# past the limit the clusters are still right, only perhaps not maximal. A guess.
_VISITS = 100
_HOLE = -1


def cut(flow: DataFlow, npu: Sequence[bool]) -> list[list[int]]:
    """Cluster the NPU nodes.

    Args:
        flow: The graph.
        npu: For each node, whether the NPU may have it.

    Returns:
        The clusters as sorted lists of node indices. Contracting them leaves the graph without cycles, and no two that
        touch could be one.
    """
    phase = _phases(flow, npu)
    home = _Sets(len(flow.nodes))
    readers: dict[tuple[int, object], int] = {}
    for index, on_npu in enumerate(npu):
        if not on_npu:
            continue
        for giver in flow.before[index]:
            if npu[giver] and phase[giver] == phase[index]:
                home.unite(giver, index)
        # Two readers of one value belong together even if nothing else connects them: it is sent over once.
        for value in flow.reads[index]:
            home.unite(readers.setdefault((phase[index], value), index), index)

    _Merger(flow, npu, phase, home).run()
    clusters: dict[int, list[int]] = {}
    for index, on_npu in enumerate(npu):
        if on_npu:
            clusters.setdefault(home.find(index), []).append(index)
    return list(clusters.values())


def steps(flow: DataFlow, clusters: Sequence[Sequence[int]]) -> list[tuple[int | None, list[int]]]:
    """Put clusters and the nodes between them in execution order.

    Returns:
        ``(index of the cluster, its nodes)``, or ``(None, nodes)`` for CPU nodes that can run together; as few CPU
        steps as the graph allows.
    """
    unit = list(range(len(flow.nodes)))
    for cluster in clusters:
        for index in cluster:
            unit[index] = cluster[0]
    which = {cluster[0]: number for number, cluster in enumerate(clusters)}
    members: dict[int, list[int]] = {}
    for index, head in enumerate(unit):
        members.setdefault(head, []).append(index)

    givers = {
        head: {unit[giver] for index in inside for giver in flow.before[index]} - {head}
        for head, inside in members.items()
    }
    phase: dict[int, int] = {}
    for head in _order(givers):
        leap = 0 if head in which else 1
        phase[head] = max((phase[giver] + (leap if giver in which else 0) for giver in givers[head]), default=0)

    result: list[tuple[int | None, list[int]]] = []
    for number in range(max(phase.values(), default=-1) + 1):
        here = [head for head in phase if phase[head] == number]
        together = sorted(head for head in here if head not in which)
        if together:
            result.append((None, together))
        result += [(which[head], members[head]) for head in here if head in which]
    return result


def _phases(flow: DataFlow, npu: Sequence[bool]) -> list[int]:
    phase: list[int] = []
    for index, givers in enumerate(flow.before):
        leap = 0 if npu[index] else 1
        phase.append(max((phase[giver] + (leap if npu[giver] else 0) for giver in givers), default=0))
    return phase


def _order(givers: dict[int, set[int]]) -> list[int]:
    """A topological order of contracted nodes; stays near the order of their first nodes."""
    takers: dict[int, list[int]] = {head: [] for head in givers}
    waiting = {head: len(found) for head, found in givers.items()}
    for head, found in givers.items():
        for giver in found:
            takers[giver].append(head)
    ready = [head for head, count in waiting.items() if not count][::-1]
    order = []
    while ready:
        head = ready.pop()
        order.append(head)
        for taker in reversed(takers[head]):
            waiting[taker] -= 1
            if not waiting[taker]:
                ready.append(taker)
    return order


class _Sets:
    """Disjoint sets of node indices."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, index: int) -> int:
        root = index
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[index] != root:
            self._parent[index], index = root, self._parent[index]
        return root

    def unite(self, first: int, second: int) -> int:
        first, second = self.find(first), self.find(second)
        self._parent[second] = first
        return first


class _Merger:
    """Merges touching clusters as long as no cycle comes of it, keeping a topological order of the contracted graph."""

    def __init__(self, flow: DataFlow, npu: Sequence[bool], phase: Sequence[int], home: _Sets) -> None:
        self._home = home
        self._budget = _VISITS * len(flow.nodes)
        heads = [home.find(index) for index in range(len(flow.nodes))]
        self._after: dict[int, set[int]] = {head: set() for head in heads}
        edges: set[tuple[int, int]] = set()
        for index, givers in enumerate(flow.before):
            for giver in givers:
                if heads[giver] != heads[index]:
                    self._after[heads[giver]].add(heads[index])
                    if npu[giver] and npu[index]:
                        edges.add((heads[giver], heads[index]))
        # CPU nodes of a phase run before its clusters; among themselves the nodes' own order holds.
        first: dict[int, tuple[int, bool, int]] = {}
        for index, head in enumerate(heads):
            first.setdefault(head, (phase[index], npu[index], index))
        self._line = sorted(first, key=first.__getitem__)
        self._place = {head: place for place, head in enumerate(self._line)}
        self._edges = sorted(edges, key=lambda edge: (self._place[edge[1]], -self._place[edge[0]]))

    def run(self) -> None:
        for giver, taker in self._edges:
            early, late = self._home.find(giver), self._home.find(taker)
            if early == late:
                continue
            reached = self._between(early, late)
            if reached is not None:
                self._merge(early, late, reached)
            if self._budget <= 0:
                return

    def _between(self, early: int, late: int) -> set[int] | None:
        """Nodes between ``early`` and ``late``; ``None`` when that leads on to ``late``: merging makes a cycle."""
        limit = self._place[late]
        reached: set[int] = set()
        stack = [head for head in map(self._home.find, self._after[early]) if head != late]
        while stack and self._budget > 0:
            self._budget -= 1
            head = self._home.find(stack.pop())
            if head == late:
                return None
            if head in reached or head == early or self._place[head] > limit:
                continue
            reached.add(head)
            stack += self._after[head]
        return None if stack else reached

    def _merge(self, early: int, late: int, reached: set[int]) -> None:
        low, high = self._place[early], self._place[late]
        window = [head for head in self._line[low : high + 1] if head != _HOLE]
        self._budget -= len(window)
        kept = self._home.unite(early, late)
        gone = late if kept == early else early
        self._after[kept] |= self._after.pop(gone)
        self._after[kept] = {head for head in self._after[kept] if self._home.find(head) != kept}
        # Nothing the pair leads to gives to it, so all that goes behind and the rest of the window before it.
        ahead = [head for head in window if head not in reached and head not in (early, late)]
        behind = [head for head in window if head in reached]
        line = [*ahead, kept, *behind]
        self._line[low : high + 1] = line + [_HOLE] * (high + 1 - low - len(line))
        for place, head in enumerate(line, start=low):
            self._place[head] = place
