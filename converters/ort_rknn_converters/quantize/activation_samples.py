"""Samples of a model's own tensors on the calibration data, which a part of it is quantized and verified on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.errors import CalibrationError, ModelError, RunFailed
from ort_rknn_converters.graph.onnx_graph import static_shape, to_proto
from ort_rknn_converters.numerics.random_inputs import boundary_values
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.quantize.calibration import Calibration, InputSpec

__all__ = ["Samples"]

Array = NDArray[Any]
Feeds = tuple[dict[str, Array], ...]


class Samples:
    """The calibration samples of a prepared model.

    Args:
        model: The model, with fixed shapes.
        options: Where the samples are.

    Raises:
        CalibrationError: There are none, or they do not fit the model's inputs.
    """

    def __init__(self, model: ir.Model, options: ConvertOptions) -> None:
        data = Calibration.of(options)
        if data is None:
            raise CalibrationError(
                f"precision {options.precision} needs calibration data: real inputs of the model, as a folder of .npy, "
                ".npz or images, or as one .npz (--calibration PATH, or the option calibration)"
            )
        self._model = model
        self.whole: Feeds = data.samples([_spec(value) for value in model.graph.inputs])
        self._lock = threading.Lock()
        self._failed: RunFailed | None = None
        self._known: list[dict[str, Array]] = [dict(sample) for sample in self.whole]

    def expect(self, names: Iterable[str]) -> None:
        """Compute these values at once, and forget others; a name of which no value can be had stays unknown."""
        wanted = sorted(set(names))
        with self._lock:
            if all(name in self._known[0] for name in wanted):
                return
            found = self._run(wanted)
            self._known = [dict(sample) | values for sample, values in zip(self.whole, found, strict=True)]

    def of(self, names: Sequence[str]) -> Feeds:
        """Samples for a part of the model that reads these values.

        Raises:
            ModelError: ONNX Runtime cannot run the model on the calibration data, or a value is not finite.
            RunFailed: That takes too long, or too much memory.
        """
        with self._lock:
            known = self._known
            failed = self._failed
        if failed is not None and not all(name in known[0] for name in names):
            raise RunFailed(str(failed), kind=failed.kind)
        if not all(name in known[0] for name in names):
            known = list(self._run(names))
        if not all(name in known[0] for name in names):
            raise ModelError("ONNX Runtime gives no finite values for it on the calibration data")
        return tuple({name: sample[name] for name in names} for sample in known)

    def _run(self, names: Sequence[str]) -> Sequence[dict[str, Array]]:
        nothing: Sequence[dict[str, Array]] = [{} for _ in self.whole]
        if self._failed is not None:  # once is enough
            return nothing
        try:
            return boundary_values(to_proto(self._model), names, self.whole) or nothing
        except RunFailed as error:
            self._failed = error
            return nothing


def _spec(value: ir.Value) -> InputSpec:
    shape = static_shape(value)
    if shape is None or value.dtype is None:
        raise CalibrationError(f"input {value.name} has no fixed shape: give one, then the calibration data fit it")
    return InputSpec(value.name or "", np.dtype(value.dtype.numpy()), shape)
