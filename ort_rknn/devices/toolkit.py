"""The vendor's simulator as a device, for conformance: what rknn-toolkit2 itself computes for a segment, on a PC.

The vendor can only simulate right after compiling (an exported file cannot be simulated), so every inference compiles
the segment again in a child process: one to several seconds each. Nobody serves requests with this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.devices.base import AUTO, Context, SegmentCode
from ort_rknn.errors import DeviceError, DeviceUnavailable

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn_converters.lower.lower import Lowered

__all__ = ["ToolkitDevice"]


class ToolkitDevice:
    """rknn-toolkit2's simulator in child processes, one inference at a time."""

    name = "toolkit"
    needs = frozenset({"rknn", "onnx"})
    cores = 1

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> Context:
        """Open a segment; see :meth:`ort_rknn.devices.base.Device.open`.

        Raises:
            DeviceUnavailable: There is no toolkit.
            DeviceError: The segment's ONNX was stripped, so there is nothing to simulate.
        """
        from ort_rknn_converters.errors import ToolkitMissing
        from ort_rknn_converters.toolkit.setup.environment import find_python

        try:
            find_python()
        except ToolkitMissing as error:
            raise DeviceUnavailable(str(error)) from error
        return _ToolkitContext(code)

    def describe(self) -> Mapping[str, Any]:
        """The toolkit's version, and that this is a simulation."""
        from ort_rknn_converters.toolkit.setup.environment import toolkit_version

        return {"device": self.name, "simulated": True, "toolkit": toolkit_version()}

    def close(self) -> None:
        """Nothing is kept open."""


class _ToolkitContext:
    """One segment, lowered once, compiled and simulated in a child per inference."""

    def __init__(self, code: SegmentCode) -> None:
        import onnx

        from ort_rknn_converters.lower.lower import lower
        from ort_rknn_converters.targets import find_target

        if code.onnx is None:
            raise DeviceError(f"{code.name}: the compiled model was stripped of its ONNX; the toolkit needs it")
        self._code = code
        self._lowered: Lowered = lower(onnx.load_model_from_string(code.onnx.read()), find_target(code.target))
        self._model = self._lowered.model.read()

    def run(self, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Compile the segment and run it once on the vendor's simulator."""
        from ort_rknn_converters.errors import ConvertError
        from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment

        arrays = {spec.name: array for spec, array in zip(self._code.inputs, inputs, strict=True)}
        feed = {
            item.name: arrays[self._named(item.name)].astype(item.dtype, copy=False).reshape(item.shape)
            for item in self._lowered.inputs
        }
        # What is quantized is calibrated on the very inputs: ranges that fit, and the vendor's arithmetic.
        options = {} if self._code.precision == "fp16" else {"dataset": (feed,)}
        request = CompileRequest(self._model, self._code.target, self._code.precision, (feed,), options=options)
        try:
            (answers,) = compile_segment(request).outputs
        except ConvertError as error:
            raise DeviceError(f"{self._code.name}: {error}", call="compile_segment") from error
        answer = {self._named(name): array for name, array in answers.items()}
        missing = [spec.name for spec in self._code.outputs if spec.name not in answer]
        if missing:
            raise DeviceError(f"{self._code.name}: the toolkit left out the output {', '.join(missing)}")
        outputs: list[Array | None] = []
        for number, spec in enumerate(self._code.outputs):
            if wanted is not None and not wanted[number]:
                outputs.append(None)
            else:
                # np.array: the caller owns what it gets, and every floating output comes back as float32.
                outputs.append(np.array(answer[spec.name]).astype(spec.dtype, copy=False).reshape(spec.shape))
        return outputs

    def _named(self, name: str) -> str:
        """The segment's name of a value of the lowered model."""
        return self._lowered.names.get(name, name)

    def close(self) -> None:
        """Nothing is kept open."""

    def describe(self) -> Mapping[str, Any]:
        """Describes the segment and says that it is simulated."""
        return {"segment": self._code.name, "simulated": True}
