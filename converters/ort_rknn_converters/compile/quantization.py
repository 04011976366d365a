"""Adds quantization to a try: samples to calibrate and verify on, the toolkit's keywords, promised accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.compile.attempt import Attempt
from ort_rknn_converters.lower.lower import Lowered
from ort_rknn_converters.numerics.weight_rounding import BY_LAYER
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.quantize.activation_samples import Samples
from ort_rknn_converters.quantize.calibration import spread
from ort_rknn_converters.quantize.mixed_precision import EVALUATED, search_mixed_precision, trade_table
from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult
from ort_rknn_converters.util.frozen import replace

__all__ = ["Quantizer"]

Feeds = Sequence[dict[str, NDArray[Any]]]

_MMSE_TIMES = 12.0
"""How much longer the algorithm mmse takes than the others (measured on ResNet-50)."""

_INSIDE = (1e-3, "cosine")  # promised of parts that give no output of the model, where top1 is asked for: a guess


class Quantizer:
    """Quantizes parts of one prepared model.

    Args:
        model: The model.
        options: How.

    Raises:
        CalibrationError: There are no calibration data, or they do not fit the model's inputs.
    """

    def __init__(self, model: ir.Model, options: ConvertOptions) -> None:
        self._options = options
        self._samples = Samples(model, options)
        self._outputs = {value.name for value in model.graph.outputs}

    @property
    def times(self) -> float:
        """Factor by which a compilation takes longer than one in fp16."""
        return _MMSE_TIMES if self._options.quantized_algorithm == "mmse" else 1.0

    def expect(self, names: Iterable[str]) -> None:
        """Say of which values there will be samples."""
        self._samples.expect(names)

    def dataset(self, names: Sequence[str]) -> Feeds:
        """The samples of a part that reads these values; raises :class:`ModelError` when there are none."""
        return self._samples.of(names)

    def verified(self, dataset: Feeds) -> Feeds:
        """Samples that a part is verified on; more where an accuracy is promised."""
        count = self._options.verify_feeds if self._options.max_loss is None else EVALUATED
        return tuple(dataset[index] for index in spread(len(dataset), count))

    def asked(self, request: CompileRequest, lowered: Lowered, dataset: Feeds) -> CompileRequest:
        """A request for float16, changed into one for the precision that the user asked for."""
        method = self._options.quantized_method
        more = {
            **request.options,
            "dataset": lowered.feeds(dataset),
            "quantized_algorithm": self._options.quantized_algorithm,
            "quantized_method": "group32" if method == "group" else method,
        }
        note = BY_LAYER if method == "layer" else None
        return replace(request, precision=self._options.precision, options=more, custom_string=note)

    def promised(
        self,
        attempt: Attempt,
        lowered: Lowered,
        request: CompileRequest,
        compile: Callable[[CompileRequest], CompileResult],
    ) -> Attempt:
        """The attempt with layers in float16, as many as the promise needs that the user asked for, if any.

        Args:
            attempt: The part with all layers quantized.
            lowered: What was compiled.
            request: How.
            compile: Compiles another request.

        Raises:
            ToolkitFailed: The toolkit fails on all mixtures and on float16.
        """
        if self._options.max_loss is None:
            return attempt
        assert attempt.result is not None
        promise, metric = self._options.max_loss, self._options.metric
        if metric == "top1" and not all(value.name in self._outputs for value in attempt.outputs):
            promise, metric = _INSIDE  # the largest element means something in the model's own outputs only
        mixed = search_mixed_precision(
            lowered.model.whole(), request, attempt.result, compile, max_loss=promise, metric=metric
        )
        note = trade_table(
            ", ".join(value.name for value in attempt.outputs), mixed, promise, metric, len(request.feeds)
        )
        return replace(attempt, result=mixed.result, warnings=(*attempt.warnings, note))
