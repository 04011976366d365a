"""Advice to the reader of a plan: names that met nothing, shapes left open, a cost rule that kept all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

from ort_rknn_converters.onnx_file.signature import DeclaredValue
from ort_rknn_converters.op_support.decide import DYNAMIC
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import MOVES_DATA, SLOWER, TOO_SMALL
from ort_rknn_converters.partition.plan import Plan

__all__ = ["BY_COST_RULE", "advice", "on_refusal"]

BY_COST_RULE = (TOO_SMALL, MOVES_DATA, SLOWER)
"""Beginnings of the cost rule's reasons."""

WITHOUT_COST_RULE = "--min-gain 0 sends to the NPU all that can go there, whether it pays or not"

_LISTED = 8  # names that an answer lists at most


def advice(plan: Plan, options: ConvertOptions, inputs: Sequence[DeclaredValue]) -> Iterator[str]:
    """Sentences in the words of ``ort-rknn convert``, the most important first; none where all is well.

    Args:
        plan: What came out.
        options: What was asked for.
        inputs: What the model declares.
    """
    nodes = {node.name: node.op_type for node in plan.nodes}
    yield from _met_nothing("--cpu-node", options.cpu_nodes, nodes.keys())
    yield from _met_nothing("--cpu-op", options.cpu_ops, nodes.values())
    reasons = plan.cpu_reasons()
    is_open = [value for value in inputs if value.is_open and value.name not in options.shapes]
    if DYNAMIC in reasons and is_open:
        yield f"NPU code has fixed shapes: say them, e.g. {' '.join(map(_shape, is_open[:_LISTED]))}"
    if options.min_gain and not plan.segments and any(reason.startswith(BY_COST_RULE) for reason in reasons):
        yield WITHOUT_COST_RULE


def on_refusal(text: str) -> str:
    """Text of a refusal by ``--npu-only``, with the cure where the cost rule had a part in it."""
    if any(reason in text for reason in BY_COST_RULE):
        return f"{text}\nhint: {WITHOUT_COST_RULE}"
    return text


def _met_nothing(option: str, wanted: Iterable[str], there: Iterable[str]) -> Iterator[str]:
    names = sorted(set(there))
    for name in sorted(set(wanted) - set(names)):
        close = difflib.get_close_matches(name, names, n=3)
        like = f"; did you mean {' or '.join(close)}?" if close else ""
        yield f"{option} {name} met nothing: the model as it is cut has none of that name{like}"


def _shape(value: DeclaredValue) -> str:
    """The option that fixes an input's shape, with the open dimensions left to fill in."""
    dims = [] if value.dims is None else [str(dim) if isinstance(dim, (int, str)) else "?" for dim in value.dims]
    return f"--shape {value.name}={'x'.join(f'<{dim}>' if not dim.isdigit() else dim for dim in dims) or '...'}"
