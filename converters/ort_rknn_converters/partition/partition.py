"""Deciding where every node of a prepared model runs: support tables, options, known failures, the cut, the cost.

Nothing is compiled here and no toolkit is needed; whoever compiles repeats the call with what was learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from ort_rknn_converters.graph.dataflow import DataFlow, boundary
from ort_rknn_converters.graph.nodes import bodies
from ort_rknn_converters.graph.onnx_graph import constant, value_info, walk
from ort_rknn_converters.graph.size_limit import oversized_reason, split_oversized
from ort_rknn_converters.op_support.decide import boundary_reason, decide
from ort_rknn_converters.op_support.fp16_range import REASON as OUT_OF_RANGE
from ort_rknn_converters.op_support.fp16_range import out_of_range, way_to_softmax
from ort_rknn_converters.op_support.fp16_small import small_paths
from ort_rknn_converters.op_support.index_paths import REASON as INDEX_REASON
from ort_rknn_converters.op_support.index_paths import WHOLE_REASON, deciding_paths, index_paths, whole_paths
from ort_rknn_converters.op_support.integer_products import REASON as SCALES_REASON
from ort_rknn_converters.op_support.integer_products import ROUNDED_REASON, rounded_results, scaling_paths
from ort_rknn_converters.op_support.passthrough import passes_through
from ort_rknn_converters.op_support.spectrum import REASON as SPECTRUM_REASON
from ort_rknn_converters.op_support.spectrum import spectrum_paths
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.clusters import cut, steps
from ort_rknn_converters.partition.cost_model import MOVES_ONLY, Estimate, cpu_seconds, estimate
from ort_rknn_converters.partition.plan import CPU, NPU, NodePlacement, Place, Plan, Segment
from ort_rknn_converters.partition.soc_costs import SocCosts, costs_of
from ort_rknn_converters.passes.tape import PART_OF
from ort_rknn_converters.targets import Target
from ort_rknn_converters.util.frozen import frozen

__all__ = ["PlannedStep", "partition", "planned_steps"]

BY_OPTION = "kept on the CPU by option"
TOO_SMALL = "too small to pay for the trip to the NPU"
SLOWER = "slower on the NPU than on the CPU"
SLOWER_MOSTLY = SLOWER + ", by {}: mostly its {}"
MOVES_DATA = "only moves data: does not pay for the trip to the NPU"
CONSTANT = "a constant for a node that stays on the CPU"
UNUSED = "its result is never used"
PART = "part of a rewritten {}, of which {} must stay on the CPU"
NO_FP16 = "{} computes in int8 only, quantized by the toolkit: --int8 with --calibration"
PASS_THROUGH = "passes a value through: the toolkit drops such an output"


_WORTH_IT = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Softmax"})
"""What is sent to the NPU though the rest of a rewritten op is not: the work is in these."""


_WOULD_PAY = 1.5
"""How much faster the NPU's work alone is where it is the trip that spoils it. A guess: it chooses the words only."""


@frozen
class PlannedStep:
    """One step of a model's execution.

    Attributes:
        name: The segment's name, or ``cpu_0``, ``cpu_1`` ...
        place: ``NPU`` for a segment of the plan, ``CPU`` for nodes that ONNX Runtime runs together.
        nodes: Names of its nodes, in topological order.
        inputs: Names of the values it reads that are not constants.
        outputs: Names of the values later parts or the caller need. Graph outputs that no node makes (a graph input or
            an initializer passed through) belong to no part.
    """

    name: str
    place: Place
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def partition(
    model: ir.Model, target: Target, options: ConvertOptions, known_failures: Mapping[str, str] | None = None
) -> Plan:
    """Place every node of a prepared model.

    Args:
        model: The model; nodes have unique names, values types and shapes as far as known. It is not changed.
        target: The SoC.
        options: ``cpu_ops``, ``cpu_nodes`` and ``min_gain`` are used here.
        known_failures: Node name -> why it must stay on the CPU, learned from earlier compilations.

    Returns:
        The plan: nodes in topological order, segments named ``npu_0`` ... in execution order, acyclic and maximal.

    Raises:
        ModelError: The graph has a cycle.
    """
    flow = DataFlow.of(model.graph)
    reasons = _cpu_reasons(flow, target, options, known_failures or {})
    while True:
        found = cut(flow, [not reason for reason in reasons])
        clusters = [piece for cluster in found for piece in split_oversized(flow, cluster)]
        trouble = {index: reason for cluster in clusters for index, reason in _edge_trouble(flow, cluster).items()}
        if not trouble:
            break
        for index, reason in trouble.items():
            reasons[index] = reason

    kept = []
    for cluster in clusters:
        moving = _moving(flow, cluster) if options.min_gain else set()
        working = [index for index in cluster if index not in moving]
        reason = _does_not_pay(flow, working, target, options) if working else ""
        if working and not reason:
            kept.append(working)
        for index in cluster:
            reasons[index] = MOVES_DATA if index in moving else reason
    if kept and (value := _untyped(flow, kept)):
        # Without its type no part could declare it; only ops from outside the standard make such values.
        reason = f"the type of {value.name!r} is unknown, so the graph cannot be cut there"
        for cluster in kept:
            for index in cluster:
                reasons[index] = reason
        kept = []
    return _plan(flow, kept, reasons, target, options)


def planned_steps(model: ir.Model, plan: Plan) -> tuple[PlannedStep, ...]:
    """The steps in which a partitioned model is executed, CPU nodes grouped into as few of them as the graph allows.

    Args:
        model: The model that was partitioned.
        plan: Its plan.
    """
    flow = DataFlow.of(model.graph)
    number = {node.name: index for index, node in enumerate(flow.nodes)}
    clusters = [[number[name] for name in segment.nodes] for segment in plan.segments]
    result = []
    cpu_parts = 0
    for which, together in steps(flow, clusters):
        for members in [together] if which is not None else split_oversized(flow, together):
            entering, leaving = boundary(flow, members)
            inputs = tuple(value.name or "" for value in entering)
            outputs = tuple(value.name or "" for value in leaving)
            names = tuple(flow.nodes[index].name or "" for index in members)
            if which is not None:
                result.append(PlannedStep(plan.segments[which].name, NPU, names, inputs, outputs))
            elif outputs:
                result.append(PlannedStep(f"cpu_{cpu_parts}", CPU, names, inputs, outputs))
                cpu_parts += 1
    return tuple(result)


def _cpu_reasons(
    flow: DataFlow, target: Target, options: ConvertOptions, known_failures: Mapping[str, str]
) -> list[str]:
    """For each node the reason it stays on the CPU, empty when the NPU may have it."""
    if options.precision == "fp16" and not target.fp16:
        return [NO_FP16.format(target.name)] * len(flow.nodes)
    on_path = deciding_paths(flow) | dict.fromkeys(whole_paths(flow), WHOLE_REASON)
    on_path |= dict.fromkeys(index_paths(flow), INDEX_REASON)
    on_path |= (
        dict.fromkeys(spectrum_paths(flow), SPECTRUM_REASON)
        | small_paths(flow)
        | dict.fromkeys(scaling_paths(flow), SCALES_REASON)
        | dict.fromkeys(rounded_results(flow), ROUNDED_REASON)
    )
    reasons = []
    for index, node in enumerate(flow.nodes):
        if node.name in options.cpu_nodes or node.op_type in options.cpu_ops:
            reasons.append(BY_OPTION)
        elif node.name in known_failures:
            reasons.append(known_failures[node.name or ""])
        else:
            reasons.append(oversized_reason(node) or decide(node, target) or on_path.get(index, ""))
    return _kept_together(flow, reasons, known_failures)


def _kept_together(flow: DataFlow, reasons: list[str], known_failures: Mapping[str, str]) -> list[str]:
    """The reasons, where a rewrite that did not hold takes its other parts along.

    What comes before and after would only lose digits: Ceil is -Floor(-x), and is wrong by 1 where fp16 rounds -x to a
    whole number. Parts that are worth the NPU without the rest stay.
    """
    planned_steps: dict[tuple[str, str], list[int]] = {}
    for index, node in enumerate(flow.nodes):
        if (origin := node.meta.get(PART_OF)) is not None:
            planned_steps.setdefault(origin, []).append(index)
    for (op_type, _), members in planned_steps.items():
        nodes = [flow.nodes[index] for index in members]
        failed = next((node.op_type for node in nodes if node.name in known_failures), "")
        if failed and not any(node.op_type in _WORTH_IT for node in nodes):
            for index in members:
                reasons[index] = reasons[index] or PART.format(op_type, failed)
    return reasons


def _edge_trouble(flow: DataFlow, cluster: Sequence[int]) -> dict[int, str]:
    """Nodes that cannot stay in this cluster because of what would cross its edge, with the reason."""
    entering, leaving = boundary(flow, cluster)
    if not leaving:
        return dict.fromkeys(cluster, UNUSED)
    trouble: dict[int, str] = {}
    for value in entering:
        if reason := boundary_reason(value):
            trouble.update({index: reason for index in cluster if value in flow.reads[index]})
    inside = set(cluster)
    members = {flow.nodes[index] for index in cluster}
    for index in cluster:
        # A mask the compiler changes may do so only where the Softmax that makes up for it comes along.
        if out_of_range(flow.nodes[index]) and not members.issuperset(way_to_softmax(flow.nodes[index]) or ()):
            trouble[index] = OUT_OF_RANGE
    sources: set[ir.Value] = set()
    for value in leaving:
        maker = flow.maker[value]
        if not flow.reads[maker]:
            trouble[maker] = CONSTANT
            continue
        if reason := boundary_reason(value):
            trouble[maker] = reason
            continue
        source = _source(flow, value, inside)
        passed = flow.maker.get(source, -1) not in inside or constant(source) is not None
        if passed or source in sources or (source is not value and source in leaving):
            trouble[maker] = PASS_THROUGH
        sources.add(source)
    return trouble


def _source(flow: DataFlow, value: ir.Value, inside: set[int]) -> ir.Value:
    """The value that this one is only another name of, within the cluster and at its edge."""
    while (index := flow.maker.get(value, -1)) in inside:
        passed = passes_through(flow.nodes[index])
        if passed is None or value is not flow.nodes[index].outputs[0]:
            break
        value = passed
    return value


def _moving(flow: DataFlow, cluster: Sequence[int]) -> set[int]:
    """Nodes of the cluster that only move data from its edge to its edge: they would pay for nothing."""
    inside = set(cluster)
    moving: set[int] = set()
    seen: set[int] = set()
    for start in cluster:
        if start in seen:
            continue
        together, waiting = set(), [start]
        while waiting:
            index = waiting.pop()
            if index not in together:
                together.add(index)
                waiting += [near for near in (*flow.before[index], *flow.after[index]) if near in inside]
        seen |= together
        if all(flow.nodes[index].op_type in MOVES_ONLY for index in together):
            moving |= together
    return moving


def _does_not_pay(flow: DataFlow, cluster: Sequence[int], target: Target, options: ConvertOptions) -> str:
    """Reason why the cost rule keeps the cluster on the CPU; empty when it goes, or when the rule is off."""
    if not options.min_gain:
        return ""
    cost = _estimate(flow, cluster, target, options)
    if cost.gain >= options.min_gain:
        return ""
    if cost.cpu_s >= _WOULD_PAY * cost.work_s:
        return TOO_SMALL
    return SLOWER_MOSTLY.format(costs_of(target.name).basis, cost.costliest)


def _estimate(flow: DataFlow, cluster: Sequence[int], target: Target, options: ConvertOptions) -> Estimate:
    entering, leaving = boundary(flow, cluster)
    return estimate((flow.nodes[index] for index in cluster), entering, leaving, target, options.precision)


def _untyped(flow: DataFlow, clusters: Sequence[Sequence[int]]) -> ir.Value | None:
    """A value of unknown type that would cross from one part to another."""
    if all(value.type is not None for value in flow.maker):
        return None
    crossing = (value for _, members in steps(flow, clusters) for value in boundary(flow, members)[0])
    return next((value for value in crossing if value.type is None), None)


def _plan(
    flow: DataFlow, clusters: Sequence[Sequence[int]], reasons: Sequence[str], target: Target, options: ConvertOptions
) -> Plan:
    segments: list[Segment] = []
    home: dict[int, str] = {}
    for which, members in steps(flow, clusters):
        if which is None:
            continue
        name = f"npu_{len(segments)}"
        home |= dict.fromkeys(members, name)
        entering, leaving = boundary(flow, members)
        segments.append(
            Segment(
                name,
                tuple(flow.nodes[index].name or "" for index in members),
                tuple(value_info(value) for value in entering),
                tuple(value_info(value) for value in leaving),
                estimated_s=_estimate(flow, members, target, options).npu_s,
            )
        )
    nodes = tuple(
        NodePlacement(
            node.name or "",
            f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type,
            NPU if index in home else CPU,
            reasons[index],
            home.get(index),
        )
        for index, node in enumerate(flow.nodes)
    )
    costs = costs_of(target.name)
    left = [(node, reasons[index]) for index, node in enumerate(flow.nodes) if index not in home]
    return Plan(
        target.name,
        options.precision,
        nodes,
        tuple(segments),
        estimated_cpu_s=cpu_seconds((node for node, _ in left), costs),
        estimated_by=costs.basis,
        mostly=_mostly(left, costs),
    )


def _mostly(left: Sequence[tuple[ir.Node, str]], costs: SocCosts) -> str:
    """The reason behind most of the CPU's time; what is in a branch or a loop counts with it, once."""
    spent: dict[str, float] = {}
    for node, reason in left:
        inner = [one for body in bodies(node) for one in walk(body)]
        spent[reason] = spent.get(reason, 0.0) + cpu_seconds((node, *inner), costs)
    return max(spent, key=spent.__getitem__, default="")
