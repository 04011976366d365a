"""One try to compile some nodes: cut out, run on ONNX Runtime, lower, compile, compare.

An attempt never raises for what is the segment's own fault; it says what failed, and which nodes the reports name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field, replace
from functools import partial
from typing import Any, Literal

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.calibration import spread
from ort_rknn_converters.constant_outputs import gone_constant
from ort_rknn_converters.dataflow import Flow, boundary
from ort_rknn_converters.errors import ModelError, ToolkitFailed
from ort_rknn_converters.extract import extract
from ort_rknn_converters.feeds import boundary_values, feeds_for
from ort_rknn_converters.frozen import frozen
from ort_rknn_converters.graph import to_proto, value_info
from ort_rknn_converters.heavy import Told
from ort_rknn_converters.lower import Lowered, lower
from ort_rknn_converters.mixed import EVALUATED, search, table
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.overflow import entering_peaks, overflows
from ort_rknn_converters.plan import Segment, TensorInfo
from ort_rknn_converters.samples import Samples
from ort_rknn_converters.support.board import placement_trouble
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.toolkit.client import CompileRequest, CompileResult
from ort_rknn_converters.verify import Reference, check, reference

__all__ = ["Attempt", "Compile", "Failure", "FailureReason", "Workshop"]

_INSIDE = (1e-3, "cosine")  # promised of parts that give no output of the model, where top1 is asked for: a guess

Array = NDArray[Any]
Compile = Callable[..., CompileResult]
FailureReason = Literal[
    "refused", "crashed", "timeout", "memory", "wrong", "unplaced", "register", "dropped", "unverifiable", "overflow"
]

_REGISTER = "bit width of field value exceeds the limit"
"""What the compiler says of it. Users of boards report wrong results for files made with it, and the simulator, which
computes without registers, agrees with ONNX Runtime all the same."""

LEAST_S, PER_MB_S = 120.0, 10.0
"""Seconds a compilation may take, whatever its size, and more for each MB of the lowered model. Guesses: a part of a
few nodes takes 0.3 s and ViT-tiny 0.3 s a MB on a PC; a board, or a PC that has much else to do, is 10 times slower."""

MMSE_TIMES = 12.0
"""How much longer the algorithm mmse takes than the others (measured on ResNet-50)."""


@frozen
class Failure:
    """Why some nodes cannot be a segment.

    Attributes:
        kind: What went wrong: the toolkit ``refused``, ``crashed``, took too much ``timeout`` or ``memory``; the
            result is ``wrong``; a layer is ``unplaced`` (no board could run it), or a size does not fit into a
            ``register`` of the NPU (the simulator does not notice, boards compute wrongly); an output was ``dropped``;
            ONNX Runtime cannot run it, so that it is ``unverifiable``; values ``overflow`` fp16.
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


@frozen
class Attempt:
    """What came of compiling some nodes.

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


class Workshop:
    """Compiles node sets of one prepared model; the same set is compiled once."""

    def __init__(self, model: ir.Model, options: ConvertOptions, compile: Compile) -> None:
        self.model = model
        self.options = options
        self.target = find_target(options.target)
        self.flow = Flow.of(model.graph)
        self._compile = compile
        self._number = {node.name: index for index, node in enumerate(self.flow.nodes)}
        self._done: dict[tuple[tuple[str, ...], bool], Attempt] = {}
        self._feeds: tuple[dict[str, Array], ...] | None = None
        self._wanted: set[str] = set()
        self._samples = Samples(model, options) if options.quantized else None
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self.compilations = 0

    def attempt(self, nodes: Sequence[str], form: onnx.ModelProto | None = None) -> Attempt:
        """Compile these nodes, or say what came of it last time. Thread-safe.

        Args:
            nodes: Their names, in topological order.
            form: Another form of the same computation, to be compiled in place of what is cut out of the model.

        Raises:
            ToolkitMissing: There is no toolkit.
        """
        key = tuple(nodes), form is not None
        if key not in self._done:
            self._done[key] = self._attempt(tuple(nodes), form)
        return self._done[key]

    def cancel(self) -> None:
        """End the compilations that other threads run."""
        self._cancelled.set()

    def edges_of(self, nodes: Sequence[str]) -> tuple[list[ir.Value], list[ir.Value]]:
        """Values that enter and leave a set of nodes."""
        return boundary(self.flow, [self._number[name] for name in nodes])

    def _attempt(self, nodes: tuple[str, ...], form: onnx.ModelProto | None) -> Attempt:
        entering, leaving = self.edges_of(nodes)
        inputs, outputs = (tuple(value_info(value) for value in edge) for edge in (entering, leaving))
        part = extract(self.model, nodes, [value.name for value in inputs], [value.name for value in outputs])
        attempt = Attempt(nodes, None, part, None, inputs, outputs)
        try:
            dataset = self._samples.of([value.name for value in inputs]) if self._samples else ()
            feeds = self._verified(dataset) or self._feeds_of(part, [value.name for value in inputs])
        except ModelError as error:
            return replace(attempt, failure=_unverifiable(error))
        try:
            lowered = lower(form or part, self.target)
        except ModelError as error:
            return replace(attempt, failure=Failure("refused", f"cannot be brought into the compiler's form: {error}"))
        request = self._request(lowered, feeds, dataset)
        self.compilations += 1
        written = threading.Event()
        request = replace(request, weights=Told(request.weights, written))

        def after_that() -> Reference:
            written.wait()
            return reference(part, feeds)

        with ThreadPoolExecutor(1) as beside:
            # While the child process compiles, and not while it waits for its model.
            answer = beside.submit(after_that)
            try:
                # Ctrl-C reaches the main thread only: with several jobs the others have to be told.
                more = {"cancelled": self._cancelled} if self.options.jobs > 1 else {}
                limit = self._timeout(len(request.model) + lowered.heavy.size)
                run = partial(self._compile, timeout=limit, **more)
                try:
                    result = run(request)
                finally:
                    written.set()
                if dataset and self.options.max_loss is not None:
                    promise, metric = self._promise(leaving, self.options.max_loss)
                    mixed = search(lowered.model, request, result, run, max_loss=promise, metric=metric)
                    notes = (table(", ".join(value.name for value in outputs), mixed, promise, metric),)
                    result, attempt = mixed.result, replace(attempt, warnings=notes)
            except ToolkitFailed as error:
                if isinstance(answer.exception(), ModelError):  # no wonder then, and nothing worth searching for
                    return replace(attempt, failure=_unverifiable(answer.exception()))
                return replace(attempt, failure=Failure(error.kind, str(error), self._named(nodes, str(error))))
            try:
                expected = answer.result()
            except ModelError as error:
                return replace(attempt, failure=_unverifiable(error))
        attempt = replace(attempt, result=result, peaks=expected.peaks, entering=entering_peaks(feeds))
        return self._judge(attempt, lowered, expected)

    def _timeout(self, size: int) -> float:
        """Seconds this compilation may take: the user's limit is for the largest, small parts are known to be quick."""
        times = MMSE_TIMES if self._samples and self.options.quantized_algorithm == "mmse" else 1.0
        return min(self.options.timeout_s, times * (LEAST_S + size / 1e6 * PER_MB_S))

    def _feeds_of(self, part: onnx.ModelProto, inputs: Sequence[str]) -> tuple[dict[str, Array], ...]:
        """Feeds for a part: what the whole model gives it on random inputs, or else random values of its own."""
        count, seed = self.options.verify_feeds, self.options.seed
        if set(inputs) <= {value.name for value in self.model.graph.inputs}:
            return feeds_for(part, count, seed)
        with self._lock:
            if self._feeds is None:
                self._feeds = self._boundary_feeds(count, seed)
        if self._feeds and all(name in feed for feed in self._feeds for name in inputs):
            return tuple({name: feed[name] for name in inputs} for feed in self._feeds)
        return feeds_for(part, count, seed)

    def _verified(self, dataset: Sequence[dict[str, Array]]) -> tuple[dict[str, Array], ...]:
        """The samples a quantized part is verified on; more where an accuracy is promised."""
        count = self.options.verify_feeds
        if self.options.max_loss is not None:
            count = EVALUATED
        return tuple(dataset[index] for index in spread(len(dataset), count))

    def _promise(self, leaving: Sequence[ir.Value], max_loss: float) -> tuple[float, str]:
        """What a part must keep. The largest element means something in the model's own outputs only."""
        if self.options.metric == "top1" and not all(value.is_graph_output() for value in leaving):
            return _INSIDE
        return max_loss, self.options.metric

    def _boundary_feeds(self, count: int, seed: int) -> tuple[dict[str, Array], ...]:
        """Every value that may ever cross an edge would be too much: those are taken that cross one now."""
        try:
            whole = to_proto(self.model)
            return boundary_values(whole, sorted(self._wanted), feeds_for(whole, count, seed)) or ()
        except ModelError:
            return ()

    def expect(self, segments: Sequence[Segment]) -> None:
        """Say which segments will be tried, so that the values at their edges are computed in one run of the model."""
        wanted = {value.name for segment in segments for value in segment.inputs}
        with self._lock:
            self._wanted = wanted
            self._feeds = None
        if self._samples:
            self._samples.expect(wanted)

    def _request(
        self, lowered: Lowered, feeds: Sequence[Mapping[str, Array]], dataset: Sequence[Mapping[str, Array]]
    ) -> CompileRequest:
        more: dict[str, Any] = {}
        if dataset:
            method = self.options.quantized_method
            more = {
                "dataset": _as_lowered(dataset, lowered),
                "quantized_algorithm": self.options.quantized_algorithm,
                "quantized_method": "group32" if method == "group" else method,
            }
        return CompileRequest(
            model=lowered.light.SerializeToString(),
            weights=lowered.heavy,
            target=self.target.name,
            precision=self.options.precision,
            feeds=_as_lowered(feeds, lowered),
            optimization_level=self.options.optimization_level,
            options=more,
        )

    def _judge(self, attempt: Attempt, lowered: Lowered, expected: Reference) -> Attempt:
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
        if not expected.outputs:
            return attempt
        own = any(node.op_type == "QuantizeLinear" for node in attempt.model.graph.node) if attempt.model else False
        precision = "int8" if own else self.options.precision
        if precision == "fp16":
            members = [self.flow.nodes[self._number[name]] for name in attempt.nodes]
            over = overflows(self.flow.nodes, members, {**attempt.entering, **expected.peaks})
            if over:
                reason = next(iter(over.values()))
                return replace(attempt, failure=Failure("overflow", reason, tuple(over), reasons=over))
        answers = _as_declared(result.outputs, lowered, expected)
        verdict = check(expected, answers, precision=precision)
        attempt = replace(attempt, rel_rms=verdict.rel_rms, max_abs=verdict.max_abs)
        if not verdict.problem:
            return self._lively(attempt, expected, answers) if precision != "fp16" else attempt
        reason = f"the compiled code computes something else: {verdict.problem}"
        return replace(attempt, failure=Failure("wrong", reason))

    def _lively(self, attempt: Attempt, expected: Reference, answers: Sequence[Mapping[str, Array]]) -> Attempt:
        """Split off a Concat that made a part of an output constant; say which other outputs went constant."""
        assert attempt.model is not None
        gone = gone_constant(attempt.model, expected.outputs, answers)
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
            if trouble := placement_trouble(row.op_type, row.target, self.target):
                found.append((self._maker(nodes, row.name.partition(":")[2], row.op_type), trouble))
        return found

    def _maker(self, nodes: Sequence[str], tensor: str, op: str) -> tuple[str, ...]:
        """Names of the nodes a tensor of the report stands for: its maker, else all of the op, else none."""
        members = [self.flow.nodes[self._number[name]] for name in nodes]
        makers = {value.name: node for node in members for value in node.outputs if value.name}
        # The compiler only ever appends to names: y_2rs, p_2conv0, y#2.
        fitting = [name for name in makers if tensor.startswith(name)]
        if fitting:
            return (makers[max(fitting, key=len)].name or "",)
        return tuple(node.name or "" for node in members if node.op_type == op)

    def _named(self, nodes: Sequence[str], message: str) -> tuple[str, ...]:
        """The one node whose name or output a message quotes, if it is exactly one."""
        words = set(message.replace("'", " ").replace('"', " ").replace(",", " ").replace(":", " ").split())
        members = [self.flow.nodes[self._number[name]] for name in nodes]
        named = [node for node in members if {node.name, *(value.name for value in node.outputs)} & words]
        return (named[0].name or "",) if len(named) == 1 else ()


def _unverifiable(error: BaseException | None) -> Failure:
    return Failure("unverifiable", f"could not be verified: {error}")


def _as_lowered(feeds: Sequence[Mapping[str, Array]], lowered: Lowered) -> tuple[dict[str, Array], ...]:
    """Feeds of the segment as the compiled code takes them."""
    return tuple(
        {
            name: feed[lowered.names.get(name, name)].astype(dtype).reshape(shape)
            for name, dtype, shape in lowered.inputs
        }
        for feed in feeds
    )


def _as_declared(
    answers: Sequence[Mapping[str, Array]], lowered: Lowered, expected: Reference
) -> list[dict[str, Array]]:
    """The simulator's answers as the segment declares them; floating ones stay float32.

    Lowering may have changed names, rank 0, and whole numbers into floats.
    """
    forms = {lowered.names.get(name, name): (name, dtype, shape) for name, dtype, shape in lowered.outputs}
    declared = []
    for wanted, answer in zip(expected.outputs, answers, strict=True):
        found = {}
        for name, want in wanted.items():
            known, dtype, _ = forms[name]
            array = answer.get(known)
            if array is None:
                continue
            if want.ndim == 0 and array.size == 1:
                array = array.reshape(())
            if dtype.kind == "f" and want.dtype.kind in "biu":
                array = array.astype(want.dtype)
            found[name] = array
        declared.append(found)
    return declared
