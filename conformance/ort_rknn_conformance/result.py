"""Results of a case: values that every report reads and that survive JSON unchanged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Literal

from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.plain_data import check_fields

__all__ = [
    "BAD",
    "HISTOGRAM_EDGES",
    "CaseResult",
    "GraphNode",
    "GroupResult",
    "LayerError",
    "OutputResult",
    "Verdict",
    "WorstElement",
]

Verdict = Literal["right", "wrong", "unsupported", "skipped", "xfailed", "xpassed", "error", "crashed", "timeout"]
"""How a case ended.

``right``/``wrong``: compared with CPU onnxruntime. ``unsupported``: CPU onnxruntime itself cannot run the case, so
there is nothing to compare with. ``skipped``/``xfailed``/``xpassed``: the flow says so, with its reason. ``error``:
our session raised. ``crashed``/``timeout``: the worker process died, or was ended at the time limit.
"""

BAD: frozenset[str] = frozenset({"wrong", "xpassed", "error", "crashed", "timeout"})
"""Verdicts that make a run fail."""


HISTOGRAM_EDGES: tuple[float, ...] = tuple(10.0 ** (half / 2) for half in range(-16, 3))
"""Edges of the error histogram's bins, in units of the output's RMS: half decades from 1e-8 to 10."""


@frozen
class WorstElement:
    """One element with a large difference.

    Attributes:
        sample: Which feed, from 0.
        index: Position in the output.
        expected: CPU onnxruntime's value, as text where it is no number.
        actual: Ours.
    """

    sample: int
    index: tuple[int, ...]
    expected: float | str
    actual: float | str


@frozen
class GroupResult:
    """Channels or columns of an output whose values are of another size than the rest, measured by themselves.

    Attributes:
        axis: Of the output.
        indices: Along that axis, in short: ``4-83``.
        count: How many indices.
        peak: Largest magnitude that CPU onnxruntime has there.
        max_abs: Largest absolute difference.
        rel_rms: RMS of the difference over RMS of the expected values.
        tolerance: Largest relative RMS accepted.
        ok: The verdict.
        note: What a reader must know of it; empty for nothing.
    """

    axis: int
    indices: str
    count: int
    peak: float
    max_abs: float
    rel_rms: float
    tolerance: float
    ok: bool
    note: str = ""


@frozen
class OutputResult:
    """One output over all samples.

    Attributes:
        name: The output's name.
        dtype: numpy's name of CPU onnxruntime's element type.
        shape: CPU onnxruntime's shape in the first sample.
        max_abs: Largest absolute difference.
        mean_abs: Mean absolute difference.
        max_rel: Largest elementwise relative difference (elements expected to be 0 left out).
        rel_rms: RMS of the difference over RMS of the expected values.
        sqnr_db: The same as a signal-to-noise ratio in dB (``inf`` when equal).
        cosine: Cosine similarity.
        nan_mismatch: Elements that are NaN or infinite on one side only (or of the other sign).
        top1: Share of rows (last axis) whose largest element is at the same place; ``None`` where that has no meaning.
        tolerance: Largest relative RMS accepted; 0 = must be equal.
        tolerance_source: Where that number comes from.
        ok: The verdict.
        why: What was wrong, in words; empty when nothing was.
        worst: The elements with the largest differences.
        mean_rel: Mean elementwise relative difference.
        top5: Share of rows where the expected largest element is among our five largest; ``None`` for shorter rows.
        histogram: Elements by absolute difference over the expected RMS: those equal, those below the first of
            :data:`HISTOGRAM_EDGES`, one number a bin, those above the last or not finite. Empty: not compared so.
        groups: Its channels or columns by the size of their values, each judged by itself; empty where all are of one
            size.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    max_abs: float
    mean_abs: float
    max_rel: float
    rel_rms: float
    sqnr_db: float
    cosine: float
    nan_mismatch: int
    top1: float | None
    tolerance: float
    tolerance_source: str
    ok: bool
    why: str = ""
    worst: tuple[WorstElement, ...] = ()
    mean_rel: float = 0.0
    top5: float | None = None
    histogram: tuple[int, ...] = ()
    groups: tuple[GroupResult, ...] = ()


@frozen
class GraphNode:
    """One node of the prepared model for the placement picture.

    Attributes:
        name: Its name in the plan, which ``--cpu-node`` takes.
        op_type: ``Conv`` ...
        place: ``NPU`` or ``CPU``.
        reason: Why not the NPU; empty on the NPU.
        segment: Name of its segment; ``None`` on the CPU.
        after: Positions of the nodes whose outputs it reads.
    """

    name: str
    op_type: str
    place: str
    reason: str = ""
    segment: str | None = None
    after: tuple[int, ...] = ()


@frozen
class LayerError:
    """Error that one node on the NPU adds.

    Attributes:
        node: Its name in the plan, which ``--cpu-node`` takes.
        op_type: ``Conv`` ...
        tensor: The output that is furthest off.
        own: Relative RMS of the node cut out alone and fed exact inputs; ``None``: not measured alone.
        entire: Relative RMS of the same tensor with everything before it in the segment on the device as well.
        peak: Largest magnitude in the exact tensor.
        nan_mismatch: Elements that are NaN or infinite on one side only.
        advice: What to do, with the exact option; empty when nothing is wrong.
        vendor_own: The same as ``own`` by the vendor's accuracy analysis on its simulator; ``None``: it has no such
            layer (fused into another), or was not asked.
        vendor_entire: The same as ``entire``, likewise.
    """

    node: str
    op_type: str
    tensor: str
    own: float | None
    entire: float
    peak: float
    nan_mismatch: int
    advice: str = ""
    vendor_own: float | None = None
    vendor_entire: float | None = None


@frozen
class CaseResult:
    """One case on one flow.

    Attributes:
        case: The case's name.
        verdict: See :data:`Verdict`.
        message: One line: why it is not right, or the flow's reason.
        outputs: One entry per output; empty when the case did not get that far.
        nodes: Nodes of the prepared model; 0 when unknown.
        npu_nodes: How many of them the flow's device ran.
        cpu_reasons: Why the others stayed on the CPU: reason -> number of nodes.
        samples: Feeds that were compared.
        seconds: Wall time, conversion included.
        ops: Op type -> number of nodes in the model as given.
        graph: The prepared model's nodes with their places; only where one model is looked at closely.
        accuracy: ``cpu_top1``, ``cpu_top5``, ``top1``, ``top5``: share of samples with the right label, by CPU
            onnxruntime and by us; empty without labels.
        layers: The nodes on the NPU by their error, worst first; only where they were asked for.
        cure: The nodes that must leave the NPU for the model to agree; empty when that was not asked for or not found.
    """

    case: str
    verdict: Verdict
    message: str = ""
    outputs: tuple[OutputResult, ...] = ()
    nodes: int = 0
    npu_nodes: int = 0
    cpu_reasons: Mapping[str, int] = field(default_factory=dict)
    samples: int = 0
    seconds: float = 0.0
    ops: Mapping[str, int] = field(default_factory=dict)
    graph: tuple[GraphNode, ...] = ()
    accuracy: Mapping[str, float] = field(default_factory=dict)
    layers: tuple[LayerError, ...] = ()
    cure: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether this result fails the run."""
        return self.verdict in BAD

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers JSON does not know (``inf``, ``nan``) become text."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CaseResult:
        """The inverse of :meth:`to_dict`.

        Raises:
            KeyError, TypeError, ValueError: The data are of another form.
        """
        outputs = tuple(
            OutputResult(
                **{
                    **{key: _number(value) if key in _FLOATS else value for key, value in row.items()},
                    "shape": tuple(row["shape"]),
                    "histogram": tuple(row.get("histogram", ())),
                    "groups": tuple(
                        GroupResult(**{key: _number(one[key]) if key in _GROUP_FLOATS else one[key] for key in one})
                        for one in row.get("groups", ())
                    ),
                    "worst": tuple(WorstElement(**{**worst, "index": tuple(worst["index"])}) for worst in row["worst"]),
                }
            )
            for row in data["outputs"]
        )
        graph = tuple(GraphNode(**{**row, "after": tuple(row["after"])}) for row in data.get("graph", ()))
        layers = tuple(
            LayerError(**{key: _number(value) if key in _LAYER_FLOATS else value for key, value in row.items()})
            for row in data.get("layers", ())
        )
        found = cls(
            **{**data, "outputs": outputs, "graph": graph, "layers": layers, "cure": tuple(data.get("cure", ()))}
        )
        check_fields(found)
        if any(not 0 <= giver < len(graph) for node in graph for giver in node.after):
            raise ValueError(f"{found.case}: an edge of its graph leads nowhere")
        if any(f"cpu_{k}" not in found.accuracy for k in ("top1", "top5") if k in found.accuracy):
            raise ValueError(f"{found.case}: a share of right labels has none of CPU onnxruntime's beside it")
        return found


_FLOATS = frozenset({"max_abs", "mean_abs", "max_rel", "mean_rel", "rel_rms", "sqnr_db", "cosine"})

_GROUP_FLOATS = frozenset({"peak", "max_abs", "rel_rms"})

_LAYER_FLOATS = frozenset({"own", "entire", "peak", "vendor_own", "vendor_entire"})


def _plain(value: Any) -> Any:
    """``value`` as strict JSON can say it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value
