"""Finds the nodes whose rounding makes a whole model wrong though each of its segments is right.

A run of the whole model tells what would be right if some nodes were exact; the search asks for ever fewer of them:
first one segment, then what lies before its border. Only cheap nodes are worth moving, the network itself is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.graph.nodes import operand
from ort_rknn_converters.graph.onnx_graph import constant
from ort_rknn_converters.partition.cost_model import MOVES_ONLY, flops
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Search", "is_delicate"]

Size = Callable[[frozenset[int]], float]
"""How wrong the outputs in question are with some nodes exact: 1 at the tolerance, infinite for NaN and shapes."""

_SHARE, _FLOP = 0.25, 2e7
"""Of the work of all segments, or of operations outside of a network, that may move to the CPU for a cure. Guesses, the
latter some 4 ms."""
_BETTER = 4.0
"""Times by which a cure that does not reach the tolerance must lessen the error. A guess."""
_RUNS, _SECONDS = 40, 60.0
"""Of one search at most. Guesses: a run takes 10 ms to 1 s."""
_FAR = 10  # nodes looked back at from a logarithm or division: a variance written out has eight. A guess.

_NETWORK = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SUMS = MOVES_ONLY | frozenset(
    {"Abs", "Add", "Clip", "Div", "Max", "Min", "Mul", "Neg", "Pow", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean"}
    | {"ReduceMin", "ReduceSum", "ReduceSumSquare", "Relu", "Sqrt", "Sub", "Sum"}
)
_DELICATE = frozenset(
    {"Div", "Log", "LpNormalization", "Pow", "Reciprocal", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "Sqrt"}
)
"""What tells small numbers from nothing; fp16 has none below 6e-8, and few digits below 6e-5."""


@frozen
class Search:
    """One search.

    Attributes:
        flow: The model.
        segments: Nodes of each segment, as indices.
        outputs: The values that are wrong.
        size: Runs the model.
        decides: Whether whole numbers are among them. Rounding flips a decision between nearly equal values wherever it
            is made, so that only a few nodes are worth moving for it.
    """

    flow: DataFlow
    segments: tuple[tuple[int, ...], ...]
    outputs: frozenset[ir.Value]
    size: Size
    decides: bool = False

    def border(self) -> frozenset[int]:
        """The nodes before a segment's border that cure the outputs when exact; empty when no few cheap ones do."""
        asked = _Asked(self.size)
        behind = self._behind(self.outputs)
        rounded = behind & {index for segment in self.segments for index in segment}
        if asked(rounded) > 1:
            return frozenset()
        guilty = next((found for one in reversed(self.segments) if asked(found := rounded & set(one)) <= 1), rounded)
        ends = [index for index in sorted(guilty) if self._leaves(index, guilty, behind)]
        cheap = self._back(ends, lambda index: self.flow.nodes[index].op_type not in _NETWORK, guilty)
        if asked(frozenset(cheap)) > 1:
            cheap = self._back(ends, lambda index: True, guilty)
        found = self._nearest(cheap, asked)
        if len(ends) > 1:
            found = self._of_one_end(found, ends, asked)
        return found if self._pays(found) else frozenset()

    def delicate(self) -> frozenset[int]:
        """The logarithms, divisions and roots, with the squares and sums before them, that cure the outputs."""
        asked = _Asked(self.size)
        rounded = frozenset(index for segment in self.segments for index in segment)
        before = asked(frozenset())
        suspects = [index for index in sorted(self._behind(self.outputs)) if is_delicate(self.flow.nodes[index])]
        ways = {index: self._back([index], lambda one: self.flow.nodes[one].op_type in _SUMS) for index in suspects}
        found = self._together(ways, rounded)
        after = asked(found) if found else before
        if after > 1:
            wider = self._together({index: self._wider(way) for index, way in ways.items()}, rounded)
            if wider != found and self._pays(wider) and asked(wider) < after / _BETTER:
                ways, found, after = {index: self._wider(way) for index, way in ways.items()}, wider, asked(wider)
        if not found or not self._pays(found) or after > max(1.0, before / _BETTER):
            return frozenset()
        goal = max(1.0, 1.1 * after)
        for index in list(ways):
            fewer = self._together({one: way for one, way in ways.items() if one != index}, rounded)
            if fewer != found and asked(fewer) <= goal:
                ways.pop(index)
                found = fewer
        return found

    def _together(self, ways: dict[int, dict[int, int]], rounded: frozenset[int]) -> frozenset[int]:
        return frozenset(one for way in ways.values() for one in way) & rounded

    def _wider(self, way: dict[int, int]) -> dict[int, int]:
        """With the products that the sums are of, and what only moves data before them."""
        before = {maker for index in way for maker in self.flow.before[index] if maker not in way}
        products = [index for index in before if self.flow.nodes[index].op_type in _NETWORK]
        return way | self._back(products, lambda one: self.flow.nodes[one].op_type in MOVES_ONLY)

    def _behind(self, values: Iterable[ir.Value]) -> frozenset[int]:
        """All nodes that the values come from."""
        waiting = [self.flow.maker[value] for value in values if value in self.flow.maker]
        return frozenset(self._back(waiting, lambda index: True, far=len(self.flow.nodes)))

    def _back(
        self,
        ends: Sequence[int],
        through: Callable[[int], bool],
        inside: Iterable[int] | None = None,
        far: int | None = None,
    ) -> dict[int, int]:
        """Nodes before some others, these included, and how far before."""
        allowed = None if inside is None else set(inside)
        limit = far or (_FAR if inside is None else len(self.flow.nodes))
        found = dict.fromkeys(ends, 0)
        waiting = list(ends)
        for index in waiting:
            for maker in self.flow.before[index]:
                fits = maker not in found and (allowed is None or maker in allowed) and found[index] < limit
                if fits and through(maker):
                    found[maker] = found[index] + 1
                    waiting.append(maker)
        return found

    def _leaves(self, index: int, guilty: frozenset[int], behind: frozenset[int]) -> bool:
        node = self.flow.nodes[index]
        return any(taker not in guilty and taker in behind for taker in self.flow.after[index]) or any(
            value in self.outputs for value in node.outputs
        )

    def _nearest(self, steps: dict[int, int], asked: _Asked) -> frozenset[int]:
        """Finds as few steps back as cure."""
        low, high = -1, max(steps.values(), default=0)
        if asked(frozenset(steps)) > 1:
            return frozenset()
        while high - low > 1:
            middle = (low + high) // 2
            if asked(frozenset(index for index, step in steps.items() if step <= middle)) <= 1:
                high = middle
            else:
                low = middle
        return frozenset(index for index, step in steps.items() if step <= high)

    def _of_one_end(self, found: frozenset[int], ends: Sequence[int], asked: _Asked) -> frozenset[int]:
        """The part before one end, where that cures alone."""
        for end in ends:
            alone = frozenset(self._back([end], lambda index: True, found)) if end in found else found
            if len(alone) < len(found) and asked(alone) <= 1:
                return alone
        return found

    def _pays(self, moved: frozenset[int]) -> bool:
        nodes = self.flow.nodes
        rounded = [index for one in self.segments for index in one]
        if self.decides and len(moved) > _SHARE * len(rounded):
            return False
        work = sum(flops(nodes[index]) for index in moved)
        network = any(nodes[index].op_type in _NETWORK for index in moved)
        return work <= max(0 if network else _FLOP, _SHARE * sum(flops(nodes[index]) for index in rounded))


class _Asked:
    """The sizes that were asked for; beyond the limits of one search nothing is cured any more."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._known: dict[frozenset[int], float] = {}
        self._until = time.monotonic() + _SECONDS

    def __call__(self, exact: frozenset[int]) -> float:
        if exact not in self._known:
            if len(self._known) >= _RUNS or time.monotonic() > self._until:
                return float("inf")
            self._known[exact] = self._size(exact)
        return self._known[exact]


def is_delicate(node: ir.Node) -> bool:
    """Whether a node tells small numbers from nothing."""
    if node.op_type in ("Div", "Pow"):
        second = operand(node, 1)
        tensor = constant(second)
        if tensor is None:
            return True
        return node.op_type == "Pow" and tensor.size <= 1 and bool((tensor.numpy() < 1).all())
    return node.op_type in _DELICATE
