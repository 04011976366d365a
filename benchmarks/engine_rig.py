"""What the engine's figures are measured on: sessions on the emulated runtime, and the floor, bare C calls by ctypes.

The floor is what a program could do that knows nothing but the vendor's calls: everything built once, one context per
core, one thread per context.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.steps import npu_step
from ort_rknn_converters.compiled.stub_model import make_stub
from ort_rknn_converters.onnx_file.blobs import Blob, BytesBlob
from ort_rknn_converters.partition.plan import NPU, NodePlacement, Plan, Segment
from ort_rknn_converters.tensor_info import TensorInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ort_rknn
from ort_rknn.devices.rknnrt.abi import Format, Input, Output, TensorType, prototypes
from tests.helpers.emulated_npu import build_native
from tests.helpers.emulator import Emulator, Model, Tensor, private_copy

TARGET = "rk3588"
CORES = 3
_ONNX = {"float16": TensorProto.FLOAT, "uint8": TensorProto.UINT8}


@dataclass(frozen=True)
class Work:
    """A model to measure with: ONNX shapes of its only input and of its outputs (float32 for the caller)."""

    input: tuple[int, ...]
    outputs: tuple[tuple[int, ...], ...]
    dtype: str = "float16"

    def model(self, padding: int = 0) -> Model:
        """As the emulator reads it."""
        layout = "nhwc" if len(self.input) == 4 else "-"
        outputs = (Tensor(f"y{i}", "float16", shape) for i, shape in enumerate(self.outputs))
        return Model((Tensor("x", self.dtype, self.input, layout),), tuple(outputs), padding=padding)

    def feed(self) -> dict[str, Any]:
        """An input; the numbers do not matter."""
        return {"x": np.ones(self.input, np.uint8 if self.dtype == "uint8" else np.float32)}

    def compiled(self, code: Blob | None = None) -> CompiledModel:
        """As a session reads it: one segment, the whole model."""
        names = [f"y{i}" for i in range(len(self.outputs))]
        x = helper.make_tensor_value_info("x", _ONNX[self.dtype], self.input)
        shapes = dict(zip(names, self.outputs, strict=True))
        ys = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        graph = helper.make_graph([helper.make_node("Net", ["x"], names, name="net", domain="bench")], "net", [x], ys)
        whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("bench", 1)])
        kind = "tensor(uint8)" if self.dtype == "uint8" else "tensor(float)"
        gives = tuple(TensorInfo(name, "tensor(float)", shape) for name, shape in shapes.items())
        segment = Segment("npu_0", ("net",), (TensorInfo("x", kind, self.input),), gives, 1e-3, 1.0, 2.0)
        plan = Plan(TARGET, "fp16", (NodePlacement("net", "Net", NPU, "", "npu_0"),), (segment,), ())
        blob = code or BytesBlob(self.model().data())
        step = npu_step(segment, code={TARGET: blob}, model=None, precision="fp16", toolkit_version="2.5.0")
        stub = BytesBlob(make_stub(whole).SerializeToString())
        return CompiledModel(stub=stub, steps=(step,), plan=plan, targets=(TARGET,), toolkit_version="2.5.0")


class Rig:
    """The emulated runtime, and sessions on it.

    Args:
        directory: Where a copy of the emulator may lie, with counters of its own.
    """

    def __init__(self, directory: Path) -> None:
        os.environ.setdefault("ORT_RKNN_NATIVE_LIBRARY", str(build_native("-O3")))
        self.emulator = Emulator(private_copy(Emulator().path, directory))
        self.emulator.configure(light=1, cores=CORES)

    def session(self, work: Work | Path | bytes, **options: Any) -> Any:
        """A session on the npu device; all its contexts open on first use."""
        model = str(work) if isinstance(work, Path) else work if isinstance(work, bytes) else work.compiled().to_bytes()
        provider = {"device": "npu", "runtime_library": str(self.emulator.path), "target": TARGET, **options}
        return ort_rknn.InferenceSession(model, providers=[("RKNNExecutionProvider", provider)])

    def bare(self, work: Work) -> Bare:
        """The same by bare calls."""
        return Bare(self.emulator.path, work)


class Bare:
    """One context per core and nothing but the vendor's four calls."""

    def __init__(self, library: Path, work: Work, file: Path | None = None) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, (result, arguments) in prototypes().items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        data = work.model().data() if file is None else os.fsencode(file)
        size = len(data) if file is None else 0
        self._contexts: list[Any] = []
        for core in range(CORES):
            context = ctypes.c_uint64()
            if core:
                bad = self._library.rknn_dup_context(ctypes.byref(self._contexts[0]), ctypes.byref(context))
            else:
                bad = self._library.rknn_init(ctypes.byref(context), data, size, 0, None)
            if bad or self._library.rknn_set_core_mask(context, 1 << core):
                raise RuntimeError("the emulator refuses a model")
            self._contexts.append(context)
        self._array = work.feed()["x"]
        kind = TensorType.UINT8 if work.dtype == "uint8" else TensorType.FLOAT32
        fmt = Format.NHWC if len(work.input) == 4 else Format.UNDEFINED
        self._inputs = (Input * 1)(Input(0, self._array.ctypes.data, self._array.nbytes, 0, kind, fmt))
        self._rooms = [[np.zeros(shape, np.float32) for shape in work.outputs] for _ in range(CORES)]
        self._outputs = [
            (Output * len(rooms))(*[Output(1, 1, i, room.ctypes.data, room.nbytes) for i, room in enumerate(rooms)])
            for rooms in self._rooms
        ]

    def infer(self, core: int) -> None:
        """One inference."""
        library, context, outputs = self._library, self._contexts[core], self._outputs[core]
        bad = library.rknn_inputs_set(context, 1, self._inputs) or library.rknn_run(context, None)
        if bad or library.rknn_outputs_get(context, len(outputs), outputs, None):
            raise RuntimeError("the emulator fails")
        library.rknn_outputs_release(context, len(outputs), outputs)

    def stream(self, jobs: int, done: Any = None) -> None:
        """Jobs on all cores at once, a thread for each."""

        def work(core: int) -> None:
            for _ in range(jobs // CORES):
                self.infer(core)
                if done is not None:
                    done()

        threads = [threading.Thread(target=work, args=(core,)) for core in range(CORES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """Destroy the contexts."""
        for context in self._contexts:
            self._library.rknn_destroy(context)


class BareSegment:
    """One context of one segment, and nothing but the vendor's four calls: in NCHW, and in floats."""

    def __init__(self, library: Path, code: bytes, inputs: Sequence[Any], outputs: Sequence[tuple[int, ...]]) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, (result, arguments) in prototypes().items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._context = ctypes.c_uint64()
        if self._library.rknn_init(ctypes.byref(self._context), code, len(code), 0, None):
            raise RuntimeError("the emulator refuses a model")
        self._arrays = [np.ascontiguousarray(array) for array in inputs]
        self._inputs = (Input * len(inputs))()
        for index, array in enumerate(self._arrays):
            fmt = Format.NHWC if array.ndim == 4 else Format.UNDEFINED
            self._inputs[index] = Input(index, array.ctypes.data, array.nbytes, 0, TensorType.FLOAT32, fmt)
        self._rooms = [np.zeros(shape, np.float32) for shape in outputs]
        self._outputs = (Output * len(outputs))(
            *[Output(1, 1, i, room.ctypes.data, room.nbytes) for i, room in enumerate(self._rooms)]
        )

    def infer(self) -> None:
        """One inference."""
        library, context, outputs = self._library, self._context, self._outputs
        bad = library.rknn_inputs_set(context, len(self._inputs), self._inputs) or library.rknn_run(context, None)
        if bad or library.rknn_outputs_get(context, len(outputs), outputs, None):
            raise RuntimeError("the emulator fails")
        library.rknn_outputs_release(context, len(outputs), outputs)

    def close(self) -> None:
        """Destroy the context."""
        self._library.rknn_destroy(self._context)


@dataclass(frozen=True)
class Taken:
    """What a stretch of work took: seconds on the clock, seconds of the CPU, times the process was switched."""

    wall: float
    cpu: float
    switches: int


@contextmanager
def taking(into: list[Taken]) -> Iterator[None]:
    """Append what the body takes."""
    before, cpu, begun = resource.getrusage(resource.RUSAGE_SELF), time.process_time(), time.perf_counter()
    yield
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF)
    switches = after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw
    into.append(Taken(wall, cpu, switches))


def stream(session: Any, feed: dict[str, Any], jobs: int, done: Any = None, expected: Any = None) -> None:
    """Jobs through ``run_async``, until the last callback; each compares its result where one is expected."""
    ended = threading.Event()
    left = [jobs]

    def callback(results: Any, user_data: Any, error: str) -> None:
        if error:
            raise RuntimeError(error)
        if done is not None:
            done()
        if expected is not None and not np.array_equal(results[0], expected):
            raise RuntimeError("a result is not what it was alone")
        left[0] -= 1
        if not left[0]:
            ended.set()

    for _ in range(jobs):
        session.run_async(None, feed, callback, None)
    ended.wait()


@contextmanager
def burner() -> Iterator[None]:
    """Another thread of this program that never rests."""
    stop = threading.Event()

    def burn() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number += 1

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def hogs(count: int = 2) -> Iterator[None]:
    """Other processes that never rest."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing beside."""
    yield


def in_turns(one: Callable[[], Any], other: Callable[[], Any], rounds: int, calls: int = 10) -> tuple[float, float]:
    """Microseconds per call of both, in turns: lower quartiles, for what other programs take is in the upper half."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(max(rounds, 8)):
        for function, kept in zip((one, other), times, strict=True):
            begun = time.perf_counter()
            for _ in range(calls):
                function()
            kept.append((time.perf_counter() - begun) / calls)
    return 1e6 * quantiles(times[0])[0], 1e6 * quantiles(times[1])[0]
