"""The time of a segment on the NPU and on the CPU, estimated: enough to leave alone what cannot pay.

The rule: a segment pays when ``cpu_s >= min_gain * npu_s``. ``npu_s`` is the fixed cost of a call, the bytes that cross
the edge, and each layer: its fixed cost and the larger of work and data over their rates. All figures and their sources
are in ``costs/``; `benchmarks/cost.py` holds the rule against owners' measurements.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from ort_rknn_converters.partition.node_work import MOVES_ONLY, NodeWork, flops, node_works, value_bytes
from ort_rknn_converters.partition.soc_costs import SocCosts, costs_of
from ort_rknn_converters.targets import Target
from ort_rknn_converters.util.frozen import frozen

__all__ = ["MOVES_ONLY", "Estimate", "cpu_seconds", "estimate", "flops", "run_seconds"]

_STORED = {"int8": 1, "fp16": 2}
"""Bytes of a value on the NPU."""


@frozen
class Estimate:
    """Seconds a segment would take on each side.

    Attributes:
        cpu_s: On ONNX Runtime.
        npu_s: On one NPU core, the call and the transfers included.
        work_s: Of these, what grows with the layers' size: no fixed costs, no transfers.
        costliest: Op type that takes most of the work on the NPU; empty without nodes.
    """

    cpu_s: float
    npu_s: float
    work_s: float
    costliest: str

    @property
    def gain(self) -> float:
        """Estimated speed of the NPU relative to the CPU."""
        return self.cpu_s / self.npu_s


def estimate(
    nodes: Iterable[ir.Node],
    entering: Iterable[ir.Value],
    leaving: Iterable[ir.Value],
    target: Target,
    precision: str = "fp16",
    costs: SocCosts | None = None,
) -> Estimate:
    """Estimates a segment.

    Args:
        nodes: Its nodes; their values have static shapes (an unknown dimension counts as 1).
        entering: The values that cross its edge inwards.
        leaving: The values that cross its edge outwards.
        target: The SoC.
        precision: Of the conversion. Nodes of a quantized graph count as ``int8`` whatever it is.
        costs: The figures; default: those of the SoC on this machine.
    """
    known = costs or costs_of(target.name)
    works = list(node_works(nodes))
    by_op: dict[str, float] = {}
    fixed_s = 0.0
    for work in works:
        fixed, spent = _layer_s(work, known, precision)
        fixed_s += fixed
        by_op[work.op_type] = by_op.get(work.op_type, 0.0) + spent
    work_s = sum(by_op.values())
    fixed_s += known("run_us") + known("call_us")
    fixed_s += sum(map(value_bytes, entering)) / known("inputs_set_gb_s")
    fixed_s += sum(map(value_bytes, leaving)) / known("outputs_get_gb_s")
    costliest = max(by_op, key=by_op.__getitem__) if by_op else ""
    return Estimate(sum(_cpu_s(work, known) for work in works), work_s + fixed_s, work_s, costliest)


def run_seconds(works: Iterable[NodeWork], costs: SocCosts, precision: str) -> float:
    """Estimates seconds of one ``rknn_run`` on one core, as benchmarks of boards give them: no transfers."""
    return costs("run_us") + sum(sum(_layer_s(work, costs, precision)) for work in works)


def cpu_seconds(nodes: Iterable[ir.Node], costs: SocCosts) -> float:
    """Estimates seconds of nodes on ONNX Runtime's CPU provider, on the large cores."""
    return sum(_cpu_s(work, costs) for work in node_works(nodes))


def _layer_s(work: NodeWork, costs: SocCosts, precision: str) -> tuple[float, float]:
    """Estimates a layer: its fixed cost, and what grows with its size."""
    if work.kind == "fused":
        return 0.0, 0.0
    # 4-bit weights come with 16-bit values.
    dtype = "int8" if work.int8 or precision == "int8" else "fp16"
    moved = (work.values + work.weights) * _STORED[dtype]
    if work.op_type in costs.runs_on_cpu:
        return costs("runtime_cpu_us"), _runtime_cpu_s(work, moved, costs)
    if work.kind in ("conv", "matmul"):
        spent = max(work.npu_flop / costs(f"{work.kind}_gflops.{dtype}"), moved / costs("layer_gb_s"))
    elif work.kind == "depthwise" and f"depthwise_gb_s.{dtype}" not in costs.figures:
        spent = moved / costs("layer_gb_s")
    else:
        spent = moved / costs.bytes_rate(work.kind, dtype)
    return costs("layer_us"), spent


def _runtime_cpu_s(work: NodeWork, moved: int, costs: SocCosts) -> float:
    if work.op_type == "Gather":
        return work.values / costs("gather_mvalues_s")
    own = f"runtime_cpu_gb_s.{work.op_type}"
    return moved / costs(own if own in costs.figures else "runtime_cpu_gb_s")


def _cpu_s(work: NodeWork, costs: SocCosts) -> float:
    if work.kind == "fused":  # ONNX Runtime fuses about the same
        return 0.0
    rate = costs("cpu_matmul_gflops" if work.kind == "matmul" else "cpu_conv_gflops")
    return max(work.flop / rate, work.cpu_bytes / costs("cpu_gb_s"))
