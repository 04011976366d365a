"""Accepts or refuses what the compiler made of some nodes: by its own report first, then by its simulator's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray

from ort_rknn_converters.compile.attempt import Attempt, Failure
from ort_rknn_converters.compile.constant_outputs import find_constant_outputs
from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.lower.lower import Lowered
from ort_rknn_converters.numerics.overflow import overflows
from ort_rknn_converters.numerics.rounding_error import Rounded, behind, deciders, rounded_run
from ort_rknn_converters.numerics.tolerance import Reference, verify_answers
from ort_rknn_converters.op_support.runtime_cpu_ops import placement_trouble
from ort_rknn_converters.targets import Target
from ort_rknn_converters.toolkit.compile import CompileResult
from ort_rknn_converters.util.frozen import replace

__all__ = ["AcceptanceCheck"]

Feeds = Sequence[Mapping[str, NDArray[Any]]]

_REGISTER = "bit width of field value exceeds the limit"
"""What the compiler says of it. Users of boards report wrong results for files made with it, and the simulator, which
computes without registers, agrees with ONNX Runtime all the same."""


class AcceptanceCheck:
    """Accepts or refuses segments of one model.

    Args:
        flow: All nodes of the model.
        target: The SoC they are compiled for.
        precision: ``fp16`` ...
    """

    def __init__(self, flow: DataFlow, target: Target, precision: str) -> None:
        self._flow = flow
        self._target = target
        self._precision = precision
        self._nodes = {node.name or "": node for node in flow.nodes}

    def check(self, attempt: Attempt, lowered: Lowered, expected: Reference, feeds: Feeds) -> Attempt:
        """The attempt with what was measured, or with its failure.

        Args:
            attempt: It has a result, and the largest values that enter and come up.
            lowered: What was compiled.
            expected: What ONNX Runtime computes; without outputs nothing is compared.
            feeds: On what.
        """
        result = attempt.result
        assert result is not None
        if unplaced := self._unplaced(attempt.nodes, result):
            names = tuple(dict.fromkeys(name for maker, _ in unplaced for name in maker))
            return replace(attempt, failure=Failure("unplaced", unplaced[0][1], names, certain=True))
        if overflow := next((line for line in result.errors if _REGISTER in line), None):
            return replace(
                attempt, failure=Failure("register", f"a size does not fit the NPU's registers ({overflow})")
            )
        if result.dropped_outputs:
            names = tuple(name for tensor in result.dropped_outputs for name in self._maker(attempt.nodes, tensor, ""))
            reason = f"the toolkit drops its output {result.dropped_outputs[0]}"
            return replace(attempt, failure=Failure("dropped", reason, names))
        order = {lowered.names.get(name, name): number for number, (name, _, _) in enumerate(lowered.inputs)}
        kept = [value for value in attempt.inputs if value.name not in result.dropped_inputs]
        attempt = replace(attempt, inputs=tuple(sorted(kept, key=lambda value: order.get(value.name, len(order)))))
        return self._compared(attempt, lowered, expected, feeds) if expected.outputs else attempt

    def _compared(self, attempt: Attempt, lowered: Lowered, expected: Reference, feeds: Feeds) -> Attempt:
        assert attempt.result is not None
        own = any(node.op_type == "QuantizeLinear" for node in attempt.model.graph.node) if attempt.model else False
        precision = "int8" if own else self._precision
        if precision == "fp16":
            members = [self._nodes[name] for name in attempt.nodes]
            over = overflows(self._flow.nodes, members, {**attempt.entering, **expected.peaks})
            if over:
                reason = next(iter(over.values()))
                return replace(attempt, failure=Failure("overflow", reason, tuple(over), reasons=over))
        answers = lowered.answers(attempt.result.outputs, expected.outputs)
        verified = verify_answers(expected, answers, precision=precision)
        attempt = replace(attempt, rel_rms=verified.rel_rms, max_abs=verified.max_abs)
        if not verified.problem:
            return self._lively(attempt, expected, answers) if precision != "fp16" else attempt
        failure = Failure("wrong", f"the compiled code computes something else: {verified.problem}")
        if precision != "fp16" or attempt.model is None:
            return replace(attempt, failure=failure)
        rounded = rounded_run(attempt.model, feeds, expected)
        decided = [name for name in verified.outputs if expected.outputs[0][name].dtype.kind in "biu"]
        follow: set[str] = set()
        if decided and rounded.flipped.issuperset(decided):  # what is picked by other positions is something else
            follow = behind(attempt.model, deciders(attempt.model, decided))
        others = [name for name in verified.outputs if name not in decided and name not in follow]
        note = rounded.explained_by_rounding(expected, answers, others) if others else ""
        if others and not note:
            return replace(attempt, failure=failure)
        if decided:
            return replace(attempt, failure=self._decided(attempt.model, failure, decided, rounded))
        return replace(attempt, warnings=(*attempt.warnings, note))

    def _decided(self, model: onnx.ModelProto, failure: Failure, outputs: Sequence[str], rounded: Rounded) -> Failure:
        """The failure of outputs that must be equal, with the nodes that decide what they are."""
        names = deciders(model, outputs)
        if not rounded.flipped.issuperset(outputs):
            return replace(failure, nodes=tuple(names))
        said = "decides between values so close that rounding to fp16 changes the answer"
        reasons = {name: f"{op} {said}" for name, op in names.items()}
        return replace(failure, nodes=tuple(names), reasons=reasons)

    def named(self, nodes: Sequence[str], message: str) -> tuple[str, ...]:
        """The one node of these whose name or output a message quotes, if it is exactly one."""
        words = set(message.replace("'", " ").replace('"', " ").replace(",", " ").replace(":", " ").split())
        members = [self._nodes[name] for name in nodes]
        named = [node for node in members if {node.name, *(value.name for value in node.outputs)} & words]
        return (named[0].name or "",) if len(named) == 1 else ()

    def _lively(self, attempt: Attempt, expected: Reference, answers: Sequence[Mapping[str, NDArray[Any]]]) -> Attempt:
        """Split off a Concat that made a part of an output constant; say which other outputs went constant."""
        assert attempt.model is not None
        gone = find_constant_outputs(attempt.model, expected.outputs, answers)
        shared = [one for one in gone if one.concat]
        if shared:
            names = tuple(dict.fromkeys(name for one in shared for name in (one.concat, *one.after)))
            return replace(attempt, failure=Failure("wrong", str(shared[0]), names))
        advice = "try more calibration data, --algorithm mmse, or --max-loss"
        return replace(attempt, warnings=(*attempt.warnings, *(f"{one}: {advice}" for one in gone)))

    def _unplaced(self, nodes: Sequence[str], result: CompileResult) -> list[tuple[tuple[str, ...], str]]:
        """Layers no board could run, as (nodes, reason): no lowering, or a CPU op the runtime is not known to have."""
        found = [
            (self._maker(nodes, tensor, op), f"{op}: the compiler has no lowering") for tensor, op in result.no_lowering
        ]
        if found:
            return found
        for row in result.layers:
            if trouble := placement_trouble(row.op_type, row.target, self._target):
                found.append((self._maker(nodes, row.name.partition(":")[2], row.op_type), trouble))
        return found

    def _maker(self, nodes: Sequence[str], tensor: str, op: str) -> tuple[str, ...]:
        """Names of the nodes a tensor of the report stands for: its maker, else all of the op, else none."""
        members = [self._nodes[name] for name in nodes]
        makers = {value.name: node for node in members for value in node.outputs if value.name}
        # The compiler only ever appends to names: y_2rs, p_2conv0, y#2.
        fitting = [name for name in makers if tensor.startswith(name)]
        if fitting:
            return (makers[max(fitting, key=len)].name or "",)
        return tuple(node.name or "" for node in members if node.op_type == op)
