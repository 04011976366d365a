"""Result of one try to compile some nodes: the segment, or what failed and which nodes are to blame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal

import onnx

from ort_rknn_converters.errors import PASSING
from ort_rknn_converters.partition.plan import Segment
from ort_rknn_converters.tensor_info import TensorInfo
from ort_rknn_converters.toolkit.compile import CompileResult
from ort_rknn_converters.util.frozen import frozen, replace

__all__ = ["Attempt", "Failure", "FailureReason", "provisional"]

FailureReason = Literal[
    "refused",
    "crashed",
    "timeout",
    "memory",
    "killed",
    "wrong",
    "unplaced",
    "register",
    "dropped",
    "unverifiable",
    "overflow",
]


@frozen
class Failure:
    """Reason why some nodes cannot be a segment.

    Attributes:
        kind: What went wrong: the toolkit ``refused``, ``crashed``, took too much ``timeout`` or ``memory``, or was
            ``killed``; the result is ``wrong``; a layer is ``unplaced`` (no board could run it), or a size does not fit
            into a ``register`` of the NPU (the simulator does not notice, boards compute wrongly); an output was
            ``dropped``; ONNX Runtime cannot run it, so that it is ``unverifiable``; values ``overflow`` fp16.
        reason: In words.
        nodes: Names of the nodes that the report blames; empty when it names none.
        certain: Whether the blamed nodes would fail in any other model, too.
        reasons: Node name -> its own reason, where they differ.
    """

    kind: FailureReason
    reason: str
    nodes: tuple[str, ...] = ()
    certain: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def passing(self) -> bool:
        """Whether it depends on the moment: the next conversion may not meet it."""
        return self.kind in PASSING

    def like(self, other: Failure) -> bool:
        """Whether both are of one sort: whether the compiler refuses or crashes says little."""
        sorts = ({"refused", "crashed"}, {self.kind})
        return any({self.kind, other.kind} <= sort for sort in sorts)


@frozen
class Attempt:
    """Result of compiling some nodes.

    Attributes:
        nodes: Their names, in topological order.
        failure: What went wrong, or ``None``.
        model: The nodes as standalone ONNX.
        result: What the toolkit made, also where the comparison failed afterwards.
        inputs: What the compiled code reads, in its order, as ONNX declares it.
        outputs: What it gives.
        rel_rms: Worst relative RMS error; ``None`` when nothing was verified.
        max_abs: Largest absolute difference.
        peaks: Largest magnitude of each floating tensor made inside on the feeds.
        entering: The same of the floating inputs.
        warnings: What a user should know of it though it may be used.
    """

    nodes: tuple[str, ...]
    failure: Failure | None
    model: onnx.ModelProto | None = None
    result: CompileResult | None = None
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    rel_rms: float | None = None
    max_abs: float | None = None
    peaks: Mapping[str, float] | None = None
    entering: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def describe(self, segment: Segment) -> Segment:
        """The plan's entry with what was measured."""
        assert self.result is not None
        return replace(
            segment,
            rel_rms=self.rel_rms,
            max_abs=self.max_abs,
            seconds=round(self.result.seconds.get("total", 0.0), 3),
            size=len(self.result.rknn),
        )


def provisional(failures: Sequence[Failure]) -> str:
    """Sums up the failures of the moment: the first, and how many more; empty where there are none."""
    if not failures:
        return ""
    more = f" ({len(failures) - 1} more such failures)" if len(failures) > 1 else ""
    return f"{failures[0].reason}{more}"
