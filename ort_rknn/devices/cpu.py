"""The CPU as a device: a segment's own ONNX on onnxruntime, as it is. The reference, and the fallback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn.devices.base import AUTO, Context, SegmentCode
from ort_rknn.errors import DeviceError

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array

__all__ = ["CpuDevice", "OrtContext"]


class OrtContext:
    """A segment as one onnxruntime session. Sessions are thread-safe, so contexts of a segment share one."""

    def __init__(self, session: Any, code: SegmentCode, facts: Mapping[str, Any]) -> None:
        self.session = session
        self._inputs = [spec.name for spec in code.inputs]
        self._outputs = [spec.name for spec in code.outputs]
        self._facts = facts

    def run(self, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Run one inference; see :meth:`ort_rknn.devices.base.Context.run`."""
        if self.session is None:
            raise DeviceError("the context is closed")
        feed = dict(zip(self._inputs, inputs, strict=True))
        if wanted is None or all(wanted):
            results: list[Array | None] = self.session.run(self._outputs, feed)
            return results
        names = [name for name, want in zip(self._outputs, wanted, strict=True) if want]
        arrays = iter(self.session.run(names, feed))
        return [next(arrays) if want else None for want in wanted]

    def close(self) -> None:
        """Give the session back. May be called twice."""
        self.session = None

    def describe(self) -> Mapping[str, Any]:
        """Facts about this context."""
        return self._facts


class CpuDevice:
    """Executes segments with onnxruntime's CPU provider.

    Args:
        cores: How many inferences run side by side. Default 1: onnxruntime uses all CPU cores for one inference.
        threads: onnxruntime's threads inside an inference; 0 lets it choose.
    """

    name = "cpu"
    needs = frozenset({"onnx"})

    def __init__(self, cores: int = 1, threads: int = 0) -> None:
        self.cores = cores
        self._threads = threads

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> OrtContext:
        """Open a segment; see :meth:`ort_rknn.devices.base.Device.open`."""
        session = share.session if isinstance(share, OrtContext) else None
        if session is None:
            if code.onnx is None:
                raise DeviceError(f"segment {code.name} was saved without its ONNX (stripped): only an NPU can run it")
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            model = code.onnx.path or code.onnx.read()
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return OrtContext(session, code, {"device": self.name, "mask": mask})

    def describe(self) -> Mapping[str, Any]:
        """Facts about the device."""
        return {"device": self.name, "cores": self.cores}

    def close(self) -> None:
        """Nothing is held."""
