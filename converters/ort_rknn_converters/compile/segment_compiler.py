"""Tries to compile some nodes: cut out, lower, compile, and meanwhile run on ONNX Runtime; then compare.

A try never raises for what is the segment's own fault; it says what failed, and which nodes the reports name. All that
the compiler need not wait for is done while it works.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.compile.acceptance import AcceptanceCheck
from ort_rknn_converters.compile.attempt import Attempt, Failure, FailureReason
from ort_rknn_converters.compile.known_failures import unsigned
from ort_rknn_converters.compile.segment_inputs import LazyFeeds, RandomFeeds
from ort_rknn_converters.errors import ModelError, RunFailed, ToolkitBroken, ToolkitFailed
from ort_rknn_converters.graph.dataflow import DataFlow, boundary
from ort_rknn_converters.graph.extract import extract
from ort_rknn_converters.graph.onnx_graph import value_info
from ort_rknn_converters.lower.lower import Lowered, lower
from ort_rknn_converters.lower.own_quantization import in_floats, is_quantized, without_fatal_pairs
from ort_rknn_converters.numerics.overflow import entering_peaks
from ort_rknn_converters.numerics.random_inputs import feeds_for, harmless
from ort_rknn_converters.numerics.tolerance import Reference, reference
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.plan import Segment
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult
from ort_rknn_converters.util.frozen import replace

if TYPE_CHECKING:
    from ort_rknn_converters.compile.quantization import Quantizer

__all__ = ["Compile", "SegmentCompiler"]

Feeds = Sequence[dict[str, NDArray[Any]]]
Compile = Callable[..., CompileResult]
"""As :func:`ort_rknn_converters.toolkit.compile.compile_segment`."""

_OF_A_TOOLKIT: frozenset[FailureReason] = frozenset({"refused", "crashed", "timeout", "memory", "killed"})
"""Failures that a broken toolkit has, too."""

_OF_THE_FORM: frozenset[FailureReason] = frozenset({"refused", "crashed", "register", "unplaced"})
"""Failures that the values of the inputs cannot be the reason of: the compiler does not know them."""

LEAST_S, PER_MB_S = 120.0, 10.0
"""Seconds a compilation may take, whatever its size, and more for each MB of the lowered model. Guesses: a part of a
few nodes takes 0.3 s and ViT-tiny 0.3 s a MB on a PC; a board, or a PC that has much else to do, is 10 times slower."""

SEARCH_S, SEARCH_TIMES = 60.0, 3.0
"""Seconds of compiling after which the search for what spoils a segment ends, and how many times the longest try more.
Guesses: small parts take 0.3 s on a PC (measured), and the halves of a large segment about as long as the whole."""


class SegmentCompiler:
    """Compiles node sets of one prepared model; the same set is compiled once.

    Args:
        model: The model.
        options: How it is compiled.
        compile: The compiler.

    Attributes:
        compilations: How many there were.
        passing: Failures of the moment: because of them the next conversion may bring more onto the NPU.
        placed: Names of the nodes in the segments that are tried now.
        floats: Names of nodes that are compiled without the model's own int8: parts with it were seen to fail.
    """

    def __init__(self, model: ir.Model, options: ConvertOptions, compile: Compile) -> None:
        self.model = model
        self.options = options
        self.target = find_target(options.target)
        self.flow = DataFlow.of(model.graph)
        self.compilations = 0
        self.placed: tuple[str, ...] = ()
        self._spent_s: list[float] = []
        self._compile = compile
        self._acceptance = AcceptanceCheck(self.flow, self.target, options.precision)
        self._number = {node.name: index for index, node in enumerate(self.flow.nodes)}
        self.floats: set[str] = set()
        self._done: dict[tuple[tuple[str, ...], str], Attempt] = {}
        self._quantizer = _quantizer(model, options)
        self.random = RandomFeeds(model, options)
        self._spare: Callable[[], object] | None = None
        self._proven = False
        self.passing: list[Failure] = []
        self._cancelled = threading.Event()

    def expect(self, segments: Sequence[Segment], spare: Callable[[], object] | None = None) -> None:
        """Say what will be tried, and what else there is to do.

        Args:
            segments: The values at their edges are computed in one run of the model.
            spare: Called in another thread while the compiler works, maybe several times; what it raises is lost.
        """
        self.placed = tuple(name for segment in segments for name in segment.nodes)
        wanted = {value.name for segment in segments for value in segment.inputs}
        self.random.expect(wanted)
        if self._quantizer:
            self._quantizer.expect(wanted)
        self._spare = spare

    def attempt(self, nodes: Sequence[str], form: onnx.ModelProto | None = None, kind: str = "") -> Attempt:
        """Compile these nodes, or say what came of it last time. Thread-safe.

        Args:
            nodes: Their names, in topological order.
            form: Another form of the same computation, to be compiled in place of what is cut out of the model.
            kind: Name of that form.

        Raises:
            ToolkitMissing: There is no toolkit.
        """
        key = tuple(nodes), kind or ("in floats" if self.floats.issuperset(nodes) else "")
        if key not in self._done:
            begun = time.monotonic()
            attempt = self._done[key] = self._attempt(tuple(nodes), form)
            self._spent_s.append(time.monotonic() - begun)
            if attempt.failure is not None and attempt.failure.passing:
                self.passing.append(attempt.failure)
        return self._done[key]

    @property
    def out_of_time(self) -> bool:
        """Whether compiling has taken so long that what fails is no longer searched for single nodes."""
        return sum(self._spent_s) > SEARCH_S + SEARCH_TIMES * max(self._spent_s, default=0.0)

    def certain(self, node: str, failure: Failure) -> bool:
        """Whether a node that fails by itself would fail in any model: by its op, attributes and shapes alone.

        Where it has weights, or where its inputs may be the reason, it is compiled once more with harmless ones.

        Args:
            node: Its name.
            failure: How it failed.
        """
        part = self._part((node,))
        weights = unsigned(part)
        if not weights and failure.kind in _OF_THE_FORM:
            return True
        if self._quantizer or any(tensor.data_type != onnx.TensorProto.FLOAT for tensor in weights):
            return False
        for tensor in weights:
            tensor.CopyFrom(harmless(tensor))
        again = self._attempt((node,), None, part).failure
        return again is not None and again.like(failure)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user on how all parts were verified."""
        trouble = self.random.trouble
        return (f"the parts were verified on random values of their own, because {trouble}",) if trouble else ()

    def suspect(self, attempts: Sequence[Attempt], prove: Callable[[], object]) -> None:
        """Make sure that it is not the toolkit, where nothing compiles and all parts fail alike.

        Args:
            attempts: Of all segments.
            prove: Compiles a model that cannot fail.

        Raises:
            ToolkitBroken: It is the toolkit.
        """
        self._proven = self._proven or any(attempt.result is not None for attempt in self._done.values())
        failures = [one.failure for one in attempts if one.failure and one.failure.kind in _OF_A_TOOLKIT]
        alike = len(failures) == len(attempts) and all(one.like(failures[0]) for one in failures)
        if self._proven or not alike:
            return
        try:
            prove()
        except (ToolkitFailed, ToolkitBroken) as error:
            raise ToolkitBroken(
                f"rknn-toolkit2 does not work: {error}. It fails on a model of two nodes, too, so it is not this model."
                " `ort-rknn toolkit status` says which toolkit that is and tries it; `ort-rknn toolkit install --force`"
                " makes the private one anew",
                dear=True,
            ) from error
        self._proven = True

    def cancel(self) -> None:
        """End the compilations that other threads run."""
        self._cancelled.set()

    def edges_of(self, nodes: Sequence[str]) -> tuple[list[ir.Value], list[ir.Value]]:
        """Values that enter and leave a set of nodes."""
        return boundary(self.flow, [self._number[name] for name in nodes])

    def _part(self, nodes: tuple[str, ...]) -> onnx.ModelProto:
        entering, leaving = self.edges_of(nodes)
        return extract(self.model, nodes, [value.name or "" for value in entering], [v.name or "" for v in leaving])

    def _attempt(
        self, nodes: tuple[str, ...], form: onnx.ModelProto | None, other: onnx.ModelProto | None = None
    ) -> Attempt:
        """Try what is cut out of the model, or the ``other`` model of the same nodes on random values of its own."""
        entering, leaving = self.edges_of(nodes)
        inputs, outputs = (tuple(value_info(value) for value in edge) for edge in (entering, leaving))
        names = [value.name for value in inputs]
        part = other or self._part(nodes)
        attempt = Attempt(nodes, None, part, None, inputs, outputs)
        try:
            dataset = self._quantizer.dataset(names) if self._quantizer else ()
        except ModelError as error:
            return replace(attempt, failure=_unverifiable(error))
        feeds: Feeds = self._quantizer.verified(dataset) if self._quantizer else self.random.of(part, names)
        if other is not None:
            feeds = feeds_for(other, self.options.verify_feeds, self.options.seed)
        if form is None and is_quantized(part):
            form = in_floats(part) if self.floats.issuperset(nodes) else without_fatal_pairs(part)
        try:
            lowered = lower(form or part, self.target)
        except ModelError as error:
            return replace(attempt, failure=Failure("refused", f"cannot be brought into the compiler's form: {error}"))
        request = self._request(lowered, feeds, dataset)
        self.compilations += 1
        with ThreadPoolExecutor(1) as beside:
            begun = threading.Event()
            beside.submit(begun.wait)  # nothing may keep the compiler from its model
            expected = beside.submit(self._reference, part, feeds)
            peaks = beside.submit(entering_peaks, feeds)
            if self._spare:
                beside.submit(self._spare)
            try:
                attempt = self._compiled(attempt, request, lowered, begun)
                # no limit: the reference run has its own (bounded_run), the peaks are arithmetic over its feeds
                attempt = replace(attempt, peaks=expected.result().peaks, entering=peaks.result())
            except (ToolkitFailed, ModelError) as error:
                return replace(attempt, failure=self._failure(nodes, error, expected))
        return self._acceptance.check(attempt, lowered, expected.result(), feeds)  # no limit: it has ended above

    def _compiled(self, attempt: Attempt, request: CompileRequest, lowered: Lowered, begun: threading.Event) -> Attempt:
        # Ctrl-C reaches the main thread only: with several jobs the others have to be told.
        more: dict[str, Any] = {"cancelled": self._cancelled} if self.options.jobs > 1 else {}
        if self.options.max_memory:
            more["max_memory"] = self.options.max_memory
        limit = self._timeout(len(request.model) + lowered.model.weights.size)
        run = partial(self._compile, timeout=limit, on_begun=begun.set, **more)
        try:
            result = run(request)
        finally:
            begun.set()  # it may have failed before it began
        attempt = replace(attempt, result=result)
        return self._quantizer.promised(attempt, lowered, request, run) if self._quantizer else attempt

    def _reference(self, part: onnx.ModelProto, feeds: Feeds) -> Reference:
        found = reference(part, feeds)
        if self._quantizer is None:
            self.random.learn([value.name for value in part.graph.input], found.outputs)
        return found

    def _failure(self, nodes: Sequence[str], error: Exception, expected: Future[Reference]) -> Failure:
        # no limit: the reference run has its own
        if isinstance(error, ToolkitFailed) and not isinstance(expected.exception(), ModelError):
            names = () if error.passing else self._acceptance.named(nodes, str(error))
            return Failure(error.kind, str(error), names)
        # no limit: it has ended above
        return _unverifiable(expected.exception() or error)  # no wonder then, and nothing worth searching for

    def _timeout(self, size: int) -> float:
        """Seconds this compilation may take: the user's limit is for the largest, small parts are known to be quick."""
        times = self._quantizer.times if self._quantizer else 1.0
        return min(self.options.timeout_s, times * (LEAST_S + size / 1e6 * PER_MB_S))

    def _request(self, lowered: Lowered, feeds: Feeds, dataset: Feeds) -> CompileRequest:
        request = CompileRequest(
            model=lowered.model.skeleton.SerializeToString(),
            weights=lowered.model.weights,
            target=self.target.name,
            feeds=LazyFeeds(len(feeds), lambda: lowered.feeds(feeds)),
            optimization_level=self.options.optimization_level,
            options={"disable_rules": sorted(self.options.disable_rules)} if self.options.disable_rules else {},
        )
        return self._quantizer.asked(request, lowered, dataset) if self._quantizer else request


def _quantizer(model: ir.Model, options: ConvertOptions) -> Quantizer | None:
    if not options.quantized:
        return None
    from ort_rknn_converters.compile.quantization import Quantizer  # slow to import (measured: 0.02 s of 0.3)

    return Quantizer(model, options)


def _unverifiable(error: BaseException | None) -> Failure:
    kind = error.kind if isinstance(error, RunFailed) else "unverifiable"
    return Failure(kind, f"could not be verified: {error}")
