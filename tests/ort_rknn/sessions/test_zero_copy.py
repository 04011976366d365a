"""Bindings with NPU memory on the emulated NPU: what is copied is counted, and what is wrong is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from ort_rknn import OrtValue
from tests.helpers.emulated_npu import npu, same
from tests.helpers.emulator import Emulator, real_path
from tests.helpers.ort_models import model as onnx_model
from tests.helpers.shared_memory import SHAPES, all_on_npu, image_session, picture, right, value
from tests.helpers.versions import needs_onnxruntime


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


def test_dynamic_shapes(emulator: Emulator) -> None:
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
