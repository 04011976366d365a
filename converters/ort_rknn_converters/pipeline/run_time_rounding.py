"""Decides whether products that a model rounds to 8 bits at run time may be computed in floats: by comparing both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph.onnx_graph import to_bytes, to_proto
from ort_rknn_converters.numerics.output_errors import LIMIT
from ort_rknn_converters.numerics.random_inputs import feeds_for
from ort_rknn_converters.numerics.tensor_error import compare, is_float
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import QUICK_S, Run, bounded
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.passes.simplify.dynamic_products import rounds_at_run_time
from ort_rknn_converters.pipeline.prepare import Prepared
from ort_rknn_converters.util.log import warn_once

__all__ = ["prepared_in_floats"]

_LIMIT = 0.1
"""Relative RMS up to which both count as the same model. A guess: 8 bits of each layer's input are off by 1 % (measured
on a BERT of two layers: 1.4 %), and layers add up."""

_RUNS = 2


def prepared_in_floats(
    source: ir.Model, options: ConvertOptions, prepare: Callable[..., Prepared]
) -> tuple[Prepared, str]:
    """Prepares a model, in floats where that gives about what its own 8 bits give.

    Args:
        source: The model as read.
        options: How it is converted.
        prepare: Prepares it; with ``run_time_rounding=True`` its products keep their 8 bits.

    Returns:
        The prepared model, and a sentence for the plan; empty where the model has no such products.
    """
    prepared = prepare(source, options)
    if not rounds_at_run_time(source) or (rounds_at_run_time(prepared.model) and not _differs(source, prepared.model)):
        return prepared, ""
    if not options.verify_feeds:
        return prepared, "products rounded to 8 bits at run time are computed in floats; nothing was compared"
    try:
        size = _difference(source, prepared.model, options)
    except ModelError as error:
        note = f"products rounded to 8 bits at run time stay on the CPU: {error}"
        return prepare(source, options, run_time_rounding=True), note
    said = f"off by a relative RMS of {size:.1e} from the model's own 8 bits"
    if size <= _LIMIT:
        note = f"products rounded to 8 bits at run time are computed in floats, which rounds less: {said}"
        if size > LIMIT:
            warn_once(note)
        return prepared, note
    return (
        prepare(source, options, run_time_rounding=True),
        f"products rounded to 8 bits at run time stay on the CPU: in floats the model is {said} (limit {_LIMIT:g})",
    )


def _differs(source: ir.Model, prepared: ir.Model) -> bool:
    """Whether some of the products were rewritten."""
    before, after = (sum("Integer" in n.op_type or "Dynamic" in n.op_type for n in m.graph) for m in (source, prepared))
    return after < before


def _difference(source: ir.Model, prepared: ir.Model, options: ConvertOptions) -> float:
    """Worst relative RMS of the floating outputs on random inputs."""
    feeds = feeds_for(to_proto(prepared), min(_RUNS, options.verify_feeds), options.seed)
    first, second = (_run(to_bytes(model), feeds) for model in (source, prepared))
    worst = 0.0
    for wanted, got in zip(first, second, strict=True):
        for name, array in wanted.items():
            if is_float(array.dtype):
                error = compare(array, got[name])
                worst = max(worst, error.rel_rms if not error.nan_mismatch else np.inf)
    return worst


def _run(model: bytes, feeds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    def work(run: Run) -> list[dict[str, Any]]:
        session = ort.on_cpu(model, ort.quiet_options())
        names = [value.name for value in session.get_outputs()]
        results = []
        for feed in feeds:
            run.next_feed()
            results.append(dict(zip(names, session.run(names, dict(feed), run.options), strict=True)))
        return results

    with ort.onnxruntime_errors("ONNX Runtime cannot run the model"):
        return bounded(work, QUICK_S, "the whole model")
