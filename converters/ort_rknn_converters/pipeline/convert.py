"""ONNX in, compiled model out: the six steps, and the loop that ends with a model that runs.

Whatever the compiler refuses, crashes on or computes wrongly goes to the CPU with that reason and the cut is repeated;
in the worst case everything is on the CPU, which still is a model that runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from ort_rknn_converters.compile.attempt import Attempt, Failure, provisional
from ort_rknn_converters.compile.fault_isolation import blame
from ort_rknn_converters.compile.known_failures import KnownFailures
from ort_rknn_converters.compile.other_forms import retry_other_forms
from ort_rknn_converters.compile.segment_compiler import Compile, SegmentCompiler
from ort_rknn_converters.compile.twins import Twins
from ort_rknn_converters.compile.whole_model import Proof
from ort_rknn_converters.compiled.model import CompiledModel, is_compiled
from ort_rknn_converters.errors import ModelError, NotAllOnNpu, ToolkitFailed
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.validate import validate_and_sort
from ort_rknn_converters.numerics.output_errors import say_numbers
from ort_rknn_converters.numerics.overflow import MARGIN, possible_overflows
from ort_rknn_converters.onnx_file.protobuf_wire import CONTENT_LIMIT
from ort_rknn_converters.onnx_file.tensor_types import FP16_MAX
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import partition
from ort_rknn_converters.partition.plan import CPU, Plan
from ort_rknn_converters.passes.simplify.dynamic_products import rounds_at_run_time
from ort_rknn_converters.pipeline.assemble import Assembly
from ort_rknn_converters.pipeline.faults import check_crash_free, explained
from ort_rknn_converters.pipeline.prepare import Prepared, prepare
from ort_rknn_converters.pipeline.run_time_rounding import prepared_in_floats
from ort_rknn_converters.pipeline.value_advice import value_advice
from ort_rknn_converters.progress import SILENT, Progress
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.toolkit.compile import compile_segment
from ort_rknn_converters.toolkit.early_start import started_early
from ort_rknn_converters.toolkit.setup.environment import toolkit_version
from ort_rknn_converters.util.frozen import replace
from ort_rknn_converters.util.user_dirs import cache_directory

__all__ = ["convert", "plan_only", "prepared"]

Model = str | os.PathLike[str] | bytes | onnx.ModelProto

_OWN_QUANTIZATION = (
    "the model brings its own quantization (QDQ), which is taken as it is whatever the precision: no calibration data"
    " are used"
)


_FEW_BITS = frozenset({"DequantizeLinear", "GatherBlockQuantized", "MatMulBnb4", "MatMulNBits"})
"""Ops around which onnxruntime has kernels of its own, less exact than what they say (seen: 1 % in 4 bits)."""


def convert(
    model: Model,
    target: str | None = None,
    *,
    options: ConvertOptions | None = None,
    progress: Progress | None = None,
    compile: Compile | None = None,
    known_failures: str | os.PathLike[str] | None = None,
    prove: Callable[[], object] | None = None,
    **fields: Any,
) -> CompiledModel:
    """Convert an ONNX model for a Rockchip NPU.

    Args:
        model: Path, bytes or proto.
        target: SoC, e.g. ``rk3588``; the options' own when ``None``.
        options: All options at once.
        progress: Told where the conversion is.
        compile: Compiles one segment; :func:`ort_rknn_converters.toolkit.compile.compile_segment` when ``None``.
        known_failures: Folder of what was learned about single nodes; the cache's when ``None``.
        prove: Raises where the compiler fails on any model; asked when it fails on all of this one. When ``None``: two
            nodes are compiled with the toolkit, and nothing is asked of a ``compile`` that was given.
        **fields: Single options, see :class:`ort_rknn_converters.options.ConvertOptions`; they win over ``options``.

    Returns:
        A model that runs: every part on the NPU was verified, everything else is left to ONNX Runtime.

    Raises:
        FileNotFoundError: No such file.
        ModelError: The model cannot be read, ONNX Runtime cannot run it, or the shapes given contradict it.
        UnknownOption, UnknownTarget: An option makes no sense.
        CalibrationError: Calibration data are needed and missing, empty, or do not fit the model.
        ToolkitMissing: Something is to be compiled and there is no rknn-toolkit2, or none that works.
        ToolkitFailed: ``npu_only`` was asked for, and the toolkit failed for a reason of the moment.
        NotAllOnNpu: ``npu_only`` was asked for and a node must stay on the CPU.
        WrongNumbers: ``strict_numbers`` was asked for and the whole model is off.
        KeyboardInterrupt: After the compiler's process was ended.
    """
    options, progress = _options(options, target, fields), progress or SILENT
    with explained(lambda: _original(model)), nullcontext(compile) if compile else started_early(model) as started:
        source = _load(model, progress)
        prepared, notes = _prepare(source, options, progress)
        own = _brings_quantization(prepared.model)
        notes = (_OWN_QUANTIZATION, *notes) if own else notes
        if own and options.quantized:
            options = replace(options, precision="fp16", max_loss=None, quantized_method="channel")
        compiler = SegmentCompiler(prepared.model, options, started or compile_segment)
        assembly = Assembly(source, _original(model), options.dims, prepared)
        few_bits = not options.values and not rounds_at_run_time(source)
        few_bits = few_bits and any(node.op_type in _FEW_BITS for node in source.graph)
        proof = Proof(compiler.flow, compiler.random, options, _original(model) if few_bits else None)
        memory = _memory(known_failures, options)
        final, attempts = _settle(compiler, assembly, proof, memory, progress, prove or _proof(compile))
        final = replace(final, values=dict(options.values))
        if final.whole is not None:
            say_numbers(final.whole, strict=options.strict_numbers)
        final = final.with_notes(*notes, *value_advice(compiler.flow, final), *_notes(source, compiler, attempts))
    progress.report("assemble")
    return replace(assembly.finish(final, attempts), provisional=provisional(compiler.passing))


def plan_only(
    model: Model,
    target: str | None = None,
    *,
    options: ConvertOptions | None = None,
    known_failures: str | os.PathLike[str] | None = None,
    **fields: Any,
) -> Plan:
    """Say what would run where, without the toolkit: nothing is compiled or verified.

    Takes and raises what :func:`convert` does, as far as it applies.
    """
    options = _options(options, target, fields)
    with explained(lambda: _original(model)):
        prepared, notes = _prepare(_load(model, SILENT), options, SILENT)
        memory = _memory(known_failures, options)
        found = partition(prepared.model, find_target(options.target), options, memory.recall(prepared.model))
        return found.with_notes(*notes)


def prepared(model: Model, options: ConvertOptions) -> Prepared:
    """The model as :func:`convert` cuts it: what the names in its plan refer to.

    Takes and raises what :func:`convert` does, as far as it applies.
    """
    with explained(lambda: _original(model)):
        return _prepare(_load(model, SILENT), options, SILENT)[0]


def _memory(known_failures: str | os.PathLike[str] | None, options: ConvertOptions) -> KnownFailures:
    return KnownFailures(
        cache_directory() if known_failures is None else Path(known_failures), options, toolkit_version()
    )


def _options(options: ConvertOptions | None, target: str | None, fields: dict[str, Any]) -> ConvertOptions:
    if target is not None:
        fields["target"] = target
    if options is None:
        return ConvertOptions.of(**fields)
    fields = ConvertOptions.own_names(fields)
    return replace(options, **fields)


def _load(model: Model, progress: Progress) -> ir.Model:
    progress.report("load")
    if not isinstance(model, onnx.ModelProto) and is_compiled(model):
        raise ModelError("the model is compiled already. Convert the original ONNX model instead")
    loaded = onnx_graph.load(model)
    validate_and_sort(loaded)
    check_crash_free(loaded, lambda: _original(model))
    return loaded


def _prepare(source: ir.Model, options: ConvertOptions, progress: Progress) -> tuple[Prepared, tuple[str, ...]]:
    """The prepared model, and sentences for the plan."""
    progress.report("prepare")
    prepared, note = prepared_in_floats(source, options, prepare)
    # Every part must stand alone: the compiled model is one file, and the compiler gets bytes.
    onnx_graph.load_weights(prepared.model, CONTENT_LIMIT)
    return prepared, (note,) if note else ()


def _brings_quantization(model: ir.Model) -> bool:
    """Whether the model is quantized already (QDQ)."""
    return any(node.op_type == "QuantizeLinear" and node.domain in ("", "ai.onnx") for node in model.graph)


def _settle(
    compiler: SegmentCompiler,
    assembly: Assembly,
    proof: Proof,
    memory: KnownFailures,
    progress: Progress,
    prove: Callable[[], object],
) -> tuple[Plan, dict[str, Attempt]]:
    """Cut, compile and learn until every segment holds."""
    learned = memory.recall(compiler.model)
    twins = Twins(compiler)
    while True:
        progress.report("plan")
        current = partition(compiler.model, compiler.target, compiler.options, learned)
        if compiler.options.npu_only:
            _demand_npu(current, compiler.passing)
        compiler.expect(current.segments, partial(_beside, assembly, proof, current))
        attempts = {
            name: retry_other_forms(compiler, one) for name, one in _attempts(compiler, current, progress).items()
        }
        failed = [attempt for attempt in attempts.values() if attempt.failure is not None]
        if not failed:
            progress.report("verify")
            verdict = proof.verdict(current)
            if not verdict.reasons:
                notes = filter(None, (verdict.note,))
                return replace(_described(current, attempts), whole=verdict.whole).with_notes(*notes), attempts
            learned = learned | dict(verdict.reasons)
        compiler.suspect(tuple(attempts.values()), prove)
        for number, attempt in enumerate(failed):
            assert attempt.failure is not None
            progress.report("learn", attempt.failure.reason, number, len(failed))
            found = twins.follow(blame(compiler, attempt), attempt.failure.kind)
            learned = learned | found.reasons
            memory.remember(compiler.model, found.reasons, found.certain)


def _beside(assembly: Assembly, proof: Proof, current: Plan) -> None:
    """All that needs no compiled code, while the compiler works."""
    assembly.begin(current)
    proof.begin(current)


def _attempts(compiler: SegmentCompiler, current: Plan, progress: Progress) -> dict[str, Attempt]:
    """Compile the segments, up to ``jobs`` at once."""
    total = len(current.segments)
    progress.report("compile", "", 0, total)
    attempts: dict[str, Attempt] = {}

    def one(number: int) -> None:
        segment = current.segments[number]
        attempts[segment.name] = compiler.attempt(segment.nodes)
        progress.report("compile", segment.name, len(attempts), total)

    if compiler.options.jobs == 1 or total < 2:
        for number in range(total):
            one(number)
    else:
        with ThreadPoolExecutor(min(compiler.options.jobs, total)) as pool:
            try:
                list(pool.map(one, range(total)))
            except BaseException:
                compiler.cancel()
                pool.shutdown(cancel_futures=True)
                raise
    return attempts


def _described(current: Plan, attempts: dict[str, Attempt]) -> Plan:
    segments = tuple(attempts[segment.name].describe(segment) for segment in current.segments)
    return replace(current, segments=segments)


def _notes(source: ir.Model, compiler: SegmentCompiler, attempts: dict[str, Attempt]) -> Iterable[str]:
    yield from compiler.notes
    if compiler.passing:
        yield f"another conversion may bring more onto the NPU: {provisional(compiler.passing)}"
    if not attempts:
        yield "nothing runs on the NPU: the whole model is left to ONNX Runtime"
    overridable = [value.name for value in source.graph.inputs if value.is_initializer()]
    if overridable:
        yield f"{len(overridable)} initializers that callers may override are constants in the compiled model"
    if compiler.options.verify_feeds == 0 and attempts:
        yield "nothing was verified (verify_feeds is 0)"
    makers = {value.name: node for node in compiler.flow.nodes for value in node.outputs}
    named = {node.name: node for node in compiler.flow.nodes}
    for attempt in attempts.values():
        yield from attempt.warnings
        for name, peak in (attempt.peaks or {}).items():
            if peak * MARGIN > FP16_MAX:
                node = makers[name]
                how = "is above" if peak > FP16_MAX else f"is within a factor of {MARGIN:g} of"
                yield f"{node.op_type} {node.name}: {name} reaches {peak:.3g}; that {how} fp16's limit, {FP16_MAX:.0f}"
        if compiler.options.precision == "fp16":
            yield from possible_overflows(
                [named[name] for name in attempt.nodes], {**attempt.entering, **(attempt.peaks or {})}
            )


def _demand_npu(final: Plan, passing: Sequence[Failure]) -> None:
    if passing:
        raise ToolkitFailed(f"not all is on the NPU: {provisional(passing)}", kind="killed")
    left = [node for node in final.nodes if node.place == CPU]
    if left:
        rows = "\n".join(f"  {node.op_type} {node.name}: {node.reason}" for node in left)
        raise NotAllOnNpu(f"{len(left)} of {len(final.nodes)} nodes must stay on the CPU:\n{rows}")


def _proof(compile: Compile | None) -> Callable[[], object]:
    """Chooses the proof of whether it is the toolkit that fails; a compiler that was handed in is believed."""
    if compile is not None:
        return lambda: None
    from ort_rknn_converters.toolkit.status import prove  # not for models that compile

    return prove


def _original(model: Model) -> str | bytes:
    """The model as onnxruntime takes it."""
    if isinstance(model, onnx.ModelProto):
        return bytes(model.SerializeToString())
    return bytes(model) if isinstance(model, (bytes, bytearray, memoryview)) else os.fspath(model)
