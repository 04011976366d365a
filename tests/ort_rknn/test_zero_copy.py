"""Bindings with NPU memory on the emulated NPU: what is copied is counted, and what goes wrong is said."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from ort_rknn import OrtValue
from ort_rknn.devices.rknnrt_library import RuntimeLibrary
from ort_rknn.errors import DeviceError, SessionClosed
from tests.helpers.emulator import REAL, Emulator, real_path
from tests.helpers.npu import build_native, npu, same
from tests.helpers.ort_models import model as onnx_model
from tests.helpers.versions import needs_onnxruntime

IMAGE = "image_fp16_rk3588"
SHAPES = {"x": (1, 3, 6, 5), "y": (1, 4, 6, 5), "z": (1, 4)}


@pytest.fixture(params=["native", "python", "no descriptors"])
def emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated runtime; the last one cannot import memory, as runtimes before 1.4."""
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", "off" if request.param == "python" else str(build_native()))
    if request.param == "no descriptors":
        has = RuntimeLibrary.has
        monkeypatch.setattr(RuntimeLibrary, "has", lambda self, name: "from_fd" not in name and has(self, name))
    emulator = Emulator()
    emulator.reset()
    names = ("contexts", "dma_bytes", "mems")
    before = [emulator.count(name) for name in names]
    yield emulator
    gc.collect()
    misuses = emulator.misuses()
    emulator.reset()
    assert not misuses
    assert [emulator.count(name) for name in names] == before


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPES["x"]).astype(np.float32) * 8


def right(x: np.ndarray) -> list[np.ndarray]:
    return REAL[IMAGE].answer([x])


def image_session(emulator: Emulator, **options: Any) -> Any:
    providers = [("RKNNExecutionProvider", options)] if options else None
    return ort_rknn.InferenceSession(real_path(IMAGE), providers=providers, device=npu(emulator))


def value(name: str, **how: Any) -> Any:
    return OrtValue.ortvalue_from_shape_and_type(SHAPES[name], np.float32, "npu", **how)


def all_on_npu(session: Any) -> tuple[Any, Any]:
    """A binding with everything in NPU memory, and its input."""
    binding, x = session.io_binding(), value("x")
    binding.bind_ortvalue_input("x", x)
    binding.bind_output("y", "npu")
    binding.bind_output("z", "npu")
    return binding, x


def test_nothing_is_copied(emulator: Emulator) -> None:
    with image_session(emulator) as session:
        probed = emulator.count("copied_in")  # whether float16 is taken
        binding, x = all_on_npu(session)
        for seed in range(4):
            x.update_inplace(picture(seed))
            session.run_with_iobinding(binding)
            same([one.numpy() for one in binding.get_outputs()], right(picture(seed)))
            same(binding.copy_outputs_to_cpu(), right(picture(seed)))
        assert emulator.count("copied_in") == probed
        assert emulator.count("copied_out") == 0
        assert emulator.count("rknn_set_io_mem") == 3, "once each: nothing has changed since"
        assert emulator.count("rknn_init") == 1, "the weights are shared with the engine's contexts"
        stats = session.stats()
        assert (stats.bound_runs, stats.copied) == (4, {})
        assert [one.device_name() for one in binding.get_outputs()] == ["npu", "npu"]
        assert session.create_ortvalue_from_shape_and_type([2], np.float32, "npu").device_name() == "npu"
        same(session.run(None, {"x": picture()}), right(picture()))  # beside it


def test_four_threads_on_three_cores(emulator: Emulator) -> None:
    session = image_session(emulator, max_queue_size=64)
    emulator.configure(latency_us=2000)
    wrong: list[object] = []
    gate = threading.Barrier(4)

    def serve(number: int) -> None:
        binding, x = all_on_npu(session)
        gate.wait()
        for seed in range(20 * number, 20 * number + 20):
            x.numpy()[...] = picture(seed)
            session.run_with_iobinding(binding)
            try:
                same([one.numpy() for one in binding.get_outputs()], right(picture(seed)))
            except AssertionError as error:
                wrong.append(error)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    runs = [emulator.count(f"core{core}_runs") for core in range(3)]
    assert min(runs) >= 15, runs
    assert emulator.count("rknn_init") == 1
    assert session.stats().bound_runs == 80
    session.close()


def test_what_is_copied_and_why(emulator: Emulator) -> None:
    session = image_session(emulator)
    binding = session.io_binding()
    binding.bind_cpu_input("x", picture())
    binding.bind_output("y", "npu")
    binding.bind_output("z")
    for _ in range(2):
        session.run_with_iobinding(binding)
        same(binding.copy_outputs_to_cpu(), right(picture()))
    assert session.stats().copied == dict.fromkeys("xz", "it is in the CPU's memory")
    assert emulator.count("copied_out") == 0, "by us, out of memory the NPU wrote"

    binding.clear_binding_inputs()
    binding.clear_binding_outputs()
    binding.bind_ortvalue_input("x", OrtValue.ortvalue_from_numpy(picture(1), "npu", layout="nchw"))
    y, kept = value("y", layout="nhwc"), np.zeros(SHAPES["z"], np.float32)
    binding.bind_ortvalue_output("y", y)
    binding.bind_output("z", "cpu", 0, np.float32, kept.shape, kept.ctypes.data)
    session.run_with_iobinding(binding)
    same([y.numpy(), kept], right(picture(1)))
    copied = session.stats().copied
    assert copied["x"] == "its memory is nchw, and the NPU uses nhwc here"
    assert copied["y"] == "its memory is nhwc, and the NPU uses nchw here"
    binding.clear_binding_outputs()
    binding.bind_output("z", "npu")  # what nobody wants goes nowhere
    session.run_with_iobinding(binding)
    same([one.numpy() for one in binding.get_outputs()], right(picture(1))[1:])
    session.close()


def test_a_limit_on_the_time_is_kept_by_copying(emulator: Emulator) -> None:
    session = image_session(emulator, run_timeout_ms=10_000)
    binding, x = all_on_npu(session)
    x.update_inplace(picture())
    for _ in range(2):
        session.run_with_iobinding(binding)
        same([one.numpy() for one in binding.get_outputs()], right(picture()))
    assert session.stats().bound_runs == 0
    assert "run_timeout_ms" in session.stats().copied["y"]
    session.close()


def test_the_simulator_copies(emulator: Emulator, npu_session: Callable[..., Any]) -> None:
    with image_session(emulator):
        a = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
        session = npu_session()
        binding = session.io_binding()
        binding.bind_ortvalue_input("A", OrtValue.ortvalue_from_numpy(a, "npu"))
        binding.bind_cpu_input("B", a)
        binding.bind_output("K", "npu")
        session.run_with_iobinding(binding)
        assert np.array_equal(binding.get_outputs()[0].numpy(), a @ np.float32([[1, 2], [-1, 3]]))
        assert session.stats().copied["K"] == "only device 'npu' shares memory; this session's is 'simulator'"


def test_moving_shapes(emulator: Emulator) -> None:
    session = ort_rknn.InferenceSession(real_path("formats_dynamic_rk3588"), device=npu(emulator))
    for batch in (1, 2, 1):
        x = np.random.default_rng(batch).standard_normal((batch, 3, 4, 4)).astype(np.float32)
        (features, grown) = session.run(None, {"image": x})
        binding = session.io_binding()
        binding.bind_ortvalue_input("image", OrtValue.ortvalue_from_numpy(x, "npu"))
        binding.bind_output("features", "npu")
        binding.bind_output("grown", "npu")
        session.run_with_iobinding(binding)
        same([one.numpy() for one in binding.get_outputs()], [features, grown])
    assert session.stats().bound_runs == 3
    session.close()


def test_by_address(emulator: Emulator) -> None:
    session = image_session(emulator)
    x, y = OrtValue.ortvalue_from_numpy(picture(), "npu"), value("y", layout="nchw")
    binding = session.io_binding()
    binding.bind_input("x", "npu", 0, np.float32, SHAPES["x"], x.data_ptr())
    binding.bind_output("y", "npu", 0, np.float32, SHAPES["y"], y.data_ptr())
    session.run_with_iobinding(binding)
    same([y.numpy()], right(picture())[:1])
    assert session.stats().copied == {}
    with pytest.raises(RuntimeError, match=r"no NPU memory of 360 bytes at 0x"):
        binding.bind_input("x", "npu", 0, np.float32, SHAPES["x"], picture().ctypes.data)
    with pytest.raises(ValueError, match="`element_type` and `shape` are to be provided"):
        binding.bind_output("y", "npu", buffer_ptr=y.data_ptr())
    session.close()


def test_one_value_in_two_sessions(emulator: Emulator) -> None:
    x = None
    with image_session(emulator) as one, image_session(emulator) as other:
        for session in (one, other, one):
            binding = session.io_binding()
            x = x or OrtValue.ortvalue_from_numpy(picture(), "npu")
            binding.bind_ortvalue_input("x", x)
            binding.bind_output("z", "npu")
            session.run_with_iobinding(binding)
            same([binding.get_outputs()[0].numpy()], right(picture())[1:])
            assert session.stats().copied == {}


def test_wrong_bindings_are_found_in_onnxruntimes_words(emulator: Emulator) -> None:
    session = image_session(emulator)
    binding, _ = all_on_npu(session)

    def refused(words: str) -> None:
        before = emulator.count("rknn_run")
        with pytest.raises(RuntimeError, match=words):
            session.run_with_iobinding(binding)
        assert emulator.count("rknn_run") == before

    binding.bind_ortvalue_input("x", OrtValue.ortvalue_from_shape_and_type(SHAPES["x"], np.int32, "npu"))
    refused("Error in execution: Unexpected input data type")
    binding.bind_ortvalue_input("x", OrtValue.ortvalue_from_shape_and_type((1, 3, 6, 4), np.float32, "npu"))
    refused("Error in execution: Got invalid dimensions for input: x")
    binding.bind_ortvalue_input("x", value("x"))
    binding.bind_ortvalue_output("z", OrtValue.ortvalue_from_shape_and_type((1, 5), np.float32, "npu"))
    refused("Error in execution: Got invalid dimensions for output: z")
    binding.bind_ortvalue_output("z", OrtValue.ortvalue_from_shape_and_type((1, 4), np.int64, "npu"))
    refused("Error in execution: Unexpected output data type")
    binding.bind_output("z", "npu")
    binding.bind_output("q", "npu")
    refused("Error in execution: Invalid output name: q")
    with pytest.raises(RuntimeError, match="Failed to find input name in the mapping: q"):
        binding.bind_ortvalue_input("q", value("x"))
    binding, _ = all_on_npu(session)
    binding.clear_binding_inputs()
    with pytest.raises(Exception, match="x"):
        session.run_with_iobinding(binding)
    # The first since onnxruntime 1.25 or later.
    with pytest.raises((ValueError, RuntimeError), match=r"with the session that created it|Invalid output name: y"):
        ort_rknn.InferenceSession(onnx_model("two")).run_with_iobinding(binding)
    session.close()


def test_a_failed_run_and_the_next(emulator: Emulator) -> None:
    session = image_session(emulator)
    binding, x = all_on_npu(session)
    x.update_inplace(picture())
    for fault in ("rknn_run@1=-1", "rknn_set_io_mem@2=-5", "rknn_init@1=-4;rknn_dup_context@1=-4"):
        emulator.configure(fault=fault)
        with pytest.raises(DeviceError, match=fault.partition("@")[0]):
            session.run_with_iobinding(binding)
        session.run_with_iobinding(binding)
        same([one.numpy() for one in binding.get_outputs()], right(picture()))
        fresh = all_on_npu(session)  # other memory: everything is set anew
        session.run_with_iobinding(fresh[0])
        emulator.configure(fault="rknn_run@1=-1")
        with pytest.raises(DeviceError):
            session.run_with_iobinding(binding)
    session.close()


def test_everything_outlives_the_session(emulator: Emulator) -> None:
    session = image_session(emulator)
    binding, x = all_on_npu(session)
    x.update_inplace(picture())
    session.run_with_iobinding(binding)
    session.close()
    kept = 0 if binding.get_outputs()[0].fileno() >= 0 else 1  # the context that has allocated
    assert emulator.count("contexts") == kept
    same(binding.copy_outputs_to_cpu(), right(picture()))
    same([x.numpy()], [picture()])
    with pytest.raises(SessionClosed):
        session.run_with_iobinding(binding)
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    outputs = [one.numpy() for one in binding.get_outputs()]
    del binding, x
    gc.collect()
    same(outputs, right(picture()))
    del outputs
    gc.collect()
    assert emulator.count("contexts") == 0
    with pytest.raises(Exception, match="Unsupported device"):
        value("x")


def test_dropped_without_closing(emulator: Emulator) -> None:
    session = image_session(emulator)
    bound = all_on_npu(session)
    session.run_with_iobinding(bound[0])
    del session, bound
    gc.collect()
    deadline = time.monotonic() + 10
    while emulator.count("contexts") and time.monotonic() < deadline:
        time.sleep(0.001)
    assert emulator.count("contexts") == 0


def test_closing_while_others_run_and_wait(emulator: Emulator) -> None:
    session = image_session(emulator, schedule=0)
    bindings = [all_on_npu(session)[0] for _ in range(3)]
    session.run_with_iobinding(bindings[0])
    ends: list[str] = []

    def serve(binding: Any) -> None:
        try:
            session.run_with_iobinding(binding)
            ends.append("ran")
        except SessionClosed:
            ends.append("closed")

    emulator.configure(fault="rknn_run@1=hang")
    threads = [threading.Thread(target=serve, args=(binding,)) for binding in bindings]
    native = session._sess
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(native.memory_use._shared._waiting) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    closing = threading.Thread(target=session.close)
    closing.start()
    while len(ends) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    emulator.release_hangs()
    for thread in (*threads, closing):
        thread.join()
    assert sorted(ends) == ["closed", "closed", "ran"]


def test_memory_is_freed_with_the_value_in_any_thread(emulator: Emulator) -> None:
    session = image_session(emulator)
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(5):
        held = [all_on_npu(session)]
        session.run_with_iobinding(held[0][0])
        assert emulator.count("mems") == 3
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        gc.collect()
        assert emulator.count("mems") == 0
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    session.close()


def test_as_ort_values(emulator: Emulator) -> None:
    session = image_session(emulator)
    for layout in ("nchw", "nhwc"):
        given = OrtValue.ortvalue_from_numpy(picture(), "npu", layout=layout)
        same([one.numpy() for one in session.run_with_ort_values(None, {"x": given})], right(picture()))
        same(session.run(None, {"x": given}), right(picture()))
    session.close()


def test_on_a_session_of_the_cpu(emulator: Emulator) -> None:
    """A value is an ordinary one there, as far as its order in memory allows."""
    a = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
    plain = ort_rknn.InferenceSession(onnx_model("two"), providers=["CPUExecutionProvider"])
    with image_session(emulator):
        x, k = OrtValue.ortvalue_from_numpy(a, "npu"), OrtValue.ortvalue_from_shape_and_type((3, 2), np.float32, "npu")
        for session in (plain, onnxruntime.InferenceSession(onnx_model("two"))):
            binding = session.io_binding()
            binding.bind_ortvalue_input("A", x)
            binding.bind_ortvalue_input("B", x)
            binding.bind_ortvalue_output("K", k)
            session.run_with_iobinding(binding)
            assert np.array_equal(k.numpy(), a @ np.float32([[1, 2], [-1, 3]]))
            x.numpy()[...] *= 2  # seen by the next run
            session.run_with_iobinding(binding)
            assert np.array_equal(k.numpy(), 2 * a @ np.float32([[1, 2], [-1, 3]]))
            x.update_inplace(a)
        with pytest.raises(RuntimeError, match="which cannot write memory that is nhwc"):
            plain.io_binding().bind_ortvalue_output("K", value("y", layout="nhwc"))


@needs_onnxruntime("1.23", "there are devices called npu")
def test_without_an_npu_it_is_onnxruntimes_business() -> None:
    theirs = onnxruntime.InferenceSession(onnx_model("two"), providers=["CPUExecutionProvider"])
    ours = ort_rknn.InferenceSession(onnx_model("two"), providers=["CPUExecutionProvider"])
    a = np.ones((3, 2), np.float32)
    for session in (theirs, ours):
        binding = session.io_binding()
        binding.bind_cpu_input("A", a)
        binding.bind_cpu_input("B", a)
        binding.bind_output("K", "npu")
        session.run_with_iobinding(binding)
        assert np.array_equal(binding.copy_outputs_to_cpu()[0], a @ np.float32([[1, 2], [-1, 3]]))
        if hasattr(theirs, "create_ortvalue_from_shape_and_type"):
            with pytest.raises(RuntimeError, match="No session allocator found"):
                session.create_ortvalue_from_shape_and_type([2], np.float32, "npu")
