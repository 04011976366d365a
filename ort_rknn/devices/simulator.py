"""An NPU in software: numbers as the NPU stores them (float16, int8, int4), any number of cores, a pretend latency.

What was simulated was not measured on a board: see :mod:`ort_rknn_converters.numerics.fp16_rounding` for what the
numbers leave out; the latency is whatever was asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ort_rknn.devices.base import ALL_CORES, AUTO, Context, SegmentCode, StoredBlob
from ort_rknn.devices.cpu import OrtContext
from ort_rknn.errors import DeviceError, DeviceUnavailable, RknnError

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array
    from ort_rknn_converters.rknn_format.values import RknnFile

__all__ = ["SimulatorContext", "SimulatorDevice"]

SIMULATED = ("fp16", "int8", "w4a16")


class SimulatorDevice:
    """Executes segments in this process, with the numbers the NPU would give.

    Args:
        cores: Pretend cores; default: as many as the target has.
        latency_s: Seconds an inference keeps its core at least; computing counts.
        target: SoC that is simulated; default: the converters' own.
        threads: onnxruntime's threads inside one inference. Default 1, so that the pretend cores do not fight.

    Raises:
        UnknownTarget: No such SoC.
    """

    name = "simulator"
    needs = frozenset({"onnx"})

    def __init__(
        self, cores: int | None = None, latency_s: float = 0.0, target: str | None = None, *, threads: int = 1
    ) -> None:
        from ort_rknn_converters.targets import DEFAULT_TARGET, find_target

        soc = find_target(target or DEFAULT_TARGET)
        self.target = soc.name
        self.cores = soc.cores if cores is None else cores
        self.latency_s = latency_s
        self._threads = threads
        self._lock = threading.Lock()
        self._sessions: dict[int, tuple[SegmentCode, Any]] = {}
        self._occupancy = _Cores(self.cores)

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> SimulatorContext:
        """Open a segment; its rounded model is made once and shared by all contexts.

        Raises:
            DeviceError: It was stored without its ONNX, its precision is not simulated here, or a core does not exist.
        """
        if code.onnx is None:
            raise DeviceError(f"segment {code.name} was saved without its ONNX (stripped): only an NPU can run it")
        if code.precision not in SIMULATED:
            raise DeviceError(
                f"segment {code.name} is compiled for {code.precision}; the in-process simulator has only "
                f"{', '.join(SIMULATED)}"
            )
        if mask != ALL_CORES and mask >> self.cores:
            raise DeviceError(f"core mask {mask:#x} names a core that the {self.cores}-core simulator does not have")
        with self._lock:
            entry = self._sessions.get(id(code))
            if entry is None:
                entry = self._sessions[id(code)] = (code, self._open_session(code))
        return SimulatorContext(entry[1], code, mask, self._occupancy, self.latency_s)

    def describe(self) -> Mapping[str, Any]:
        """Facts about the device."""
        return {
            "device": self.name,
            "target": self.target,
            "cores": self.cores,
            "latency_s": self.latency_s,
            "note": "simulated: every value rounded as it is stored, not measured on a board",
        }

    def close(self) -> None:
        """Give the models back."""
        self._sessions.clear()

    def _open_session(self, code: SegmentCode) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The casts between the nodes leave nothing to fuse: the optimizer only costs time (measured on a ResNet-50:
        # 180 ms to open against 320, and no run the faster for it).
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        model = _rounded(code)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _rounded(code: SegmentCode) -> str | bytes:
    """The segment's ONNX with its numbers rounded: path or content. From the cache it needs no onnx but once."""
    blob = code.onnx
    assert blob is not None

    def make() -> bytes:
        from ort_rknn_converters.errors import ConvertError
        from ort_rknn_converters.extras import COMPLETE, EXTRA

        if not COMPLETE:
            raise DeviceUnavailable(
                f"the simulator rounds a model with the packages onnx and onnx-ir, which are not installed: {EXTRA}"
            )
        import onnx

        try:
            model = onnx.load(blob.path) if blob.path is not None else onnx.load_model_from_string(blob.read())
            if code.precision == "fp16":
                from ort_rknn_converters.numerics.fp16_rounding import round_to_fp16

                rounded = round_to_fp16(model)
            else:
                from ort_rknn_converters.numerics.int8_rounding import round_to_int8

                rounded = round_to_int8(model, _file(code))
        except (RknnError, ConvertError, OSError):
            raise
        except Exception as error:  # onnx raises a class of its own per kind of fault
            raise DeviceError(
                f"segment {code.name} cannot be simulated: its ONNX in the compiled model is damaged ({error})"
            ) from error
        content: bytes = rounded.SerializeToString()
        return content

    # Asked of the class: Python 3.10 and 3.11 read every property for isinstance, and ``path`` would hash all of the
    # float32 model, which is not opened.
    if not hasattr(type(blob), "derived"):
        return make()
    if code.precision == "fp16":
        from ort_rknn_converters.numerics.fp16_rounding import RULE

        rule = RULE
    else:
        from ort_rknn_converters.numerics.int8_rounding import INT8_RULE

        rule = f"{INT8_RULE}-{code.target}"
    kept = cast("StoredBlob", blob).derived(f"{rule}.onnx", make)
    return kept.path or kept.read()


def _file(code: SegmentCode) -> RknnFile:
    """The compiled file, which has the scales."""
    from ort_rknn_converters.errors import CompiledModelError
    from ort_rknn_converters.rknn_format.reader import read_rknn

    if code.rknn is None:
        raise DeviceError(f"segment {code.name} has no compiled code for {code.target}, which holds its scales")
    try:
        file = read_rknn(code.rknn.path or code.rknn.read())
    except CompiledModelError as error:
        raise DeviceError(f"the scales of segment {code.name} cannot be read: {error}") from error
    if file.problem:
        raise DeviceError(f"the scales of segment {code.name} cannot be read: {file.problem}")
    return file


class SimulatorContext(OrtContext):
    """A segment on pretend cores: while it runs, nothing else runs on these cores."""

    def __init__(self, session: Any, code: SegmentCode, mask: int, cores: _Cores, latency_s: float) -> None:
        super().__init__(session, code, {"device": "simulator", "mask": mask, "latency_s": latency_s})
        self._mask = mask
        self._cores = cores
        self._latency_s = latency_s
        self._runs = self._late = 0

    def describe(self) -> Mapping[str, Any]:
        """Facts about this context; ``late`` counts the ``runs`` whose arithmetic took longer than the latency."""
        return {**super().describe(), "runs": self._runs, "late": self._late}

    def run(self, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Run one inference; see :meth:`ort_rknn.devices.base.Context.run`."""
        taken = self._cores.take(self._mask)
        try:
            deadline = time.perf_counter() + self._latency_s
            outputs = super().run(inputs, wanted)
            left = deadline - time.perf_counter()
            if left > 0:
                time.sleep(left)
            self._runs += 1
            self._late += left <= 0
        finally:
            self._cores.give_back(taken)
        return outputs


class _Cores:
    """Pretend cores and which of them are busy."""

    def __init__(self, cores: int) -> None:
        self._all = (1 << cores) - 1
        self._busy = 0
        self._changed = threading.Condition(threading.Lock())

    def take(self, mask: int) -> int:
        """Wait for the cores of a mask (any one core for auto); gives those taken."""
        with self._changed:
            while True:
                free = self._all & ~self._busy
                wanted = (mask & self._all) or (free & -free)
                if wanted and not wanted & self._busy:
                    self._busy |= wanted
                    return wanted
                self._changed.wait()  # no limit: whoever has the core computes on this CPU, and gives it back

    def give_back(self, taken: int) -> None:
        """Free what :meth:`take` gave."""
        with self._changed:
            self._busy &= ~taken
            self._changed.notify_all()
