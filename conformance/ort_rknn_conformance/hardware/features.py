"""Tries what the vendor's runtime can do beyond running a model: each thing is tried once on the device.

The trials use the device below the engine, so that one that fails says which call failed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from ort_rknn.api.session import InferenceSession
from ort_rknn.devices.base import SegmentCode, TensorSpec
from ort_rknn.devices.rknnrt.abi import Input, Output
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.devices.rknnrt.tensor_layout import address_of
from ort_rknn.devices.settings import PRIORITIES
from ort_rknn.errors import DeviceError
from ort_rknn.ort_conventions import RKNN_PROVIDER
from ort_rknn.ort_types.ortvalue import OrtValue
from ort_rknn_conformance.doctor.board_models import CONVOLUTION, DYNAMIC, dynamic_source, read_dynamic
from ort_rknn_conformance.hardware.trial import Attempt, Trial
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.numerics.tensor_error import compare
from ort_rknn_converters.numerics.tolerance import tolerance
from ort_rknn_converters.onnx_file.blobs import BytesBlob, FileBlob
from ort_rknn_converters.onnx_file.tensor_types import FP16_MAX
from ort_rknn_converters.util.frozen import replace

__all__ = ["feature_attempts"]

Array = NDArray[Any]
Facts = tuple["bool | None", str] | tuple["bool | None", str, str]
"""Right, wrong or neither; what was seen; and perhaps a long text."""


def feature_attempts(device: NpuDevice, target: str) -> Iterator[Attempt]:
    """Everything that is to be tried; an exception is a result."""
    for name, attempt in _BoardSession(device, target).attempts():
        yield Attempt("features", (name,), partial(_tried, name, attempt))


def _tried(name: str, attempt: Callable[[], Facts]) -> list[Trial]:
    try:
        ok, said, *details = attempt()
    except Exception as error:
        return [Trial("features", name, False, f"{type(error).__name__}: {error}".partition("\n")[0])]
    return [Trial("features", name, ok, said, details="".join(details))]


class _BoardSession:
    """The convolution as a segment, two feeds and their right answers."""

    def __init__(self, device: NpuDevice, target: str) -> None:
        self._device = device
        self._target = target
        (step,) = CompiledModel.load(CONVOLUTION.read(target)).npu_steps
        self._code = SegmentCode(
            step.name,
            (TensorSpec("x", np.dtype(np.float32), (1, 8, 8, 8)),),
            (TensorSpec("y", np.dtype(np.float32), (1, 8, 8, 8)),),
            target,
            step.precision,
            step.code[target],
            step.onnx,
        )
        self._feeds = [feed["x"] for feed in CONVOLUTION.feeds(2)]
        original = CONVOLUTION.source().SerializeToString()
        reference = onnxruntime.InferenceSession(original, providers=["CPUExecutionProvider"])
        self._right = [reference.run(None, {"x": feed})[0] for feed in self._feeds]

    def attempts(self) -> Iterator[tuple[str, Callable[[], Facts]]]:
        """Names and functions, in the order of the report."""
        yield "weights shared by two contexts", self._shared
        yield "opened by path", self._by_path
        for priority in PRIORITIES:
            yield f"priority {priority}", partial(self._with, priority=priority)
        yield "memory that the runtime counts", self._memory
        yield "internal tensors in SRAM", self._sram
        yield "time of each layer", self._layers
        yield "text inside the compiled code", self._text
        yield "calls made by Python alone", partial(self._with, native=False)
        yield "float images handed over as float32", partial(self._with, half_inputs=False)
        yield "an input's memory used again before the run", self._used_again
        yield "zero copy", partial(self._zero_copy, handed_on=False)
        yield "zero copy from another's file descriptor", partial(self._zero_copy, handed_on=True)
        for shape in DYNAMIC:
            yield f"several input shapes: {'x'.join(map(str, shape))}", partial(self._dynamic, shape)
        yield f"values beyond {FP16_MAX:.0f}", self._overflow

    def _again(self, **options: Any) -> NpuDevice:
        """Returns the device with other options."""
        path = self._device.library.path
        settings = replace(self._device.settings, target=self._target, runtime_library=path, **options)
        return type(self._device)(settings)

    def _judge(self, answers: Sequence[Array | None], more: str = "") -> Facts:
        off = max(compare(*pair).rel_rms for pair in zip(self._right, answers, strict=True))  # type: ignore[arg-type]
        if off <= tolerance("fp16", False):
            return True, more or "right"
        return False, f"wrong numbers: off by {off:.2g} (relative RMS)"

    def _with(self, **options: Any) -> Facts:
        device = self._again(**options)
        try:
            return self._judge(self._run(device, self._code))
        finally:
            device.close()

    def _run(self, device: NpuDevice, code: SegmentCode) -> list[Array | None]:
        context = device.open(code)
        try:
            return [context.run([feed])[0] for feed in self._feeds]
        finally:
            context.close()

    def _shared(self) -> Facts:
        first = self._device.open(self._code)
        try:
            second = self._device.open(self._code, share=first)
            try:
                if second.lender is None:
                    raise DeviceError("the runtime shares no weights, they were loaded twice; the warning says why")
                # one after the other in turn: neither may see the other's values
                return self._judge([first.run([self._feeds[0]])[0], second.run([self._feeds[1]])[0]])
            finally:
                second.close()
        finally:
            first.close()

    def _by_path(self) -> Facts:
        assert self._code.rknn is not None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "segment.rknn"
            path.write_bytes(self._code.rknn.read())
            return self._judge(self._run(self._device, replace(self._code, rknn=FileBlob(str(path)))))

    def _memory(self) -> Facts:
        context = self._device.open(self._code)
        try:
            return None, ", ".join(f"{name} {size}" for name, size in context.memory().items())
        finally:
            context.close()

    def _sram(self) -> Facts:
        device = self._again(sram=True)
        try:
            context = device.open(self._code)
            try:
                answers = [context.run([feed])[0] for feed in self._feeds]
                memory = context.memory()
                return self._judge(answers, f"right; {memory['sram']} bytes, {memory['sram_free']} free")
            finally:
                context.close()
        finally:
            device.close()

    def _layers(self) -> Facts:
        device = self._again(collect_perf=True)
        try:
            context = device.open(self._code)
            try:
                context.run([self._feeds[0]])
                table = context.perf_detail()
                said = f"{context.run_duration() * 1e6:.0f} us in all, {len(table.splitlines())} lines"
                return (True if table else None), said, table
            finally:
                context.close()
        finally:
            device.close()

    def _text(self) -> Facts:
        context = self._device.open(self._code)
        try:
            return None, context.custom_string() or "none"
        finally:
            context.close()

    def _used_again(self) -> Facts:
        """The engine's lanes overwrite an input as soon as ``rknn_inputs_set`` has returned."""
        context = self._device.open(self._code)
        (given,), (taken,) = context.io.inputs, context.io.outputs
        library, handle = context.library, context.handle
        answers: list[Array | None] = []
        try:
            for feed in self._feeds:
                kept = np.float16 if given.half else given.dtype
                data = np.ascontiguousarray(feed.transpose(0, 2, 3, 1) if given.turn else feed, kept)
                raw = np.zeros(taken.written, taken.raw)
                item = Input(given.index, address_of(data), data.nbytes, 0, given.type, given.fmt)
                slot = Output(taken.want_float, 1, taken.index, address_of(raw), raw.nbytes)
                library.call("rknn_inputs_set", handle, 1, byref(item))
                data[...] = 100
                library.call("rknn_run", handle, None)
                library.call("rknn_outputs_get", handle, 1, byref(slot), None)
                library.call("rknn_outputs_release", handle, 1, byref(slot))
                answers.append(taken.finish(raw))
        finally:
            context.close()
        return self._judge(answers)

    def _zero_copy(self, *, handed_on: bool) -> Facts:
        """A session that runs on memory which this program and the NPU share."""
        session = InferenceSession(
            CONVOLUTION.read(self._target), providers=[RKNN_PROVIDER, "CPUExecutionProvider"], device=self._device
        )
        try:
            shape = self._feeds[0].shape
            given, taken = (OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "npu") for _ in range(2))
            bound = OrtValue.ortvalue_from_dmabuf(given.fileno(), shape, np.float32) if handed_on else given
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", bound)
            binding.bind_ortvalue_output("y", taken)
            answers: list[Array | None] = []
            for feed in self._feeds:
                given.update_inplace(feed)
                session.run_with_iobinding(binding)
                answers.append(np.array(taken.numpy()))
            return self._judge(answers)
        finally:
            session.close()

    def _dynamic(self, shape: tuple[int, ...]) -> Facts:
        model = dynamic_source(shape).SerializeToString()
        result = (shape[0], 8, *shape[2:])
        code = SegmentCode(
            "dynamic",
            (TensorSpec("image", np.dtype(np.float32), shape),),
            (TensorSpec("features", np.dtype(np.float32), result),),
            self._target,
            "fp16",
            BytesBlob(read_dynamic(self._target)),
            BytesBlob(model),
            dynamic=True,
        )
        feed = np.random.default_rng(5).normal(0, 1, shape).astype(np.float32)
        right = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"image": feed})[0]
        context = self._device.open(code)
        try:
            (answer,) = context.run([feed])
        finally:
            context.close()
        assert answer is not None
        off = compare(right, answer).rel_rms
        ok = off <= tolerance("fp16", False)
        return ok, "right" if ok else f"wrong numbers: off by {off:.2g} (relative RMS)"

    def _overflow(self) -> Facts:
        (weights,) = (numpy_helper.to_array(one) for one in CONVOLUTION.source().graph.initializer)
        feed = np.zeros_like(self._feeds[0])
        feed[0, :, :3, :3] = np.sign(weights[0]) * 60000  # all products of channel 0 add up around (1, 1)
        context = self._device.open(self._code)
        try:
            (answer,) = context.run([feed])
        finally:
            context.close()
        assert answer is not None
        return None, f"{60000 * np.abs(weights[0]).sum():.0f} becomes {answer[0, 0, 1, 1]:g}"
