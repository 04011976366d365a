"""Sessions of bare ``.rknn`` files on the emulated NPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph

import ort_rknn
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.rknn_format.values import RknnFile
from tests.helpers.emulated_npu import build_native, feeds, npu, same, segment
from tests.helpers.emulator import REAL, Emulator, Model, Tensor, real_path
from tests.helpers.ort_models import model as onnx_model

IMAGE, TOKENS = "image_fp16_rk3588", "tokens_fp16_rk3588"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()))
    with Emulator().watched() as emulator:
        yield emulator


def right(model: Model, given: list[np.ndarray]) -> list[np.ndarray]:
    native = model.answer(given, native=True)
    return [exact if exact.dtype == np.int64 else real for real, exact in zip(model.answer(given), native, strict=True)]


def feed(model: Model, seed: int = 0) -> dict[str, Any]:
    code = segment(model)
    return {spec.name: array for spec, array in zip(code.inputs, feeds(code, seed), strict=True)}


@pytest.mark.parametrize("name", [IMAGE, TOKENS])
@pytest.mark.parametrize("by", ["path", "bytes"])
def test_a_session_of_a_file(emulator: Emulator, name: str, by: str) -> None:
    path, model = real_path(name), REAL[name]
    with ort_rknn.InferenceSession(path if by == "path" else path.read_bytes(), device=npu(emulator)) as session:
        assert [(one.name, tuple(one.shape)) for one in session.get_inputs()] == [
            (tensor.name, tensor.shape) for tensor in model.inputs
        ]
        assert session.get_providers()[0] == "RKNNExecutionProvider"
        assert session.get_modelmeta().producer_name == "rknn-toolkit2"
        for seed in range(3):
            given = feed(model, seed)
            same(session.run(None, given), right(model, list(given.values())))
        jobs = [session.submit(None, feed(model, seed)) for seed in range(9)]
        for seed, job in enumerate(jobs):
            same(job.result(20), right(model, list(feed(model, seed).values())))
        only = session.run([model.outputs[-1].name], given)
        same(only, right(model, list(given.values()))[-1:])
        with pytest.raises(InvalidArgument):
            session.run(None, {name: value[:, :1] for name, value in given.items()})


def test_by_the_runtimes_path_alone(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a board: nothing but provider options."""
    options = {"device": "npu", "runtime_library": str(emulator.path), "target": "rk3588"}
    session = ort_rknn.InferenceSession(real_path(IMAGE), providers=[("RKNNExecutionProvider", options)])
    same(session.run(None, feed(REAL[IMAGE])), right(REAL[IMAGE], list(feed(REAL[IMAGE]).values())))
    session.close()


def forget_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no file says what types its inputs and outputs are."""
    read = reader.read_rknn

    def forgetful(model: Any) -> RknnFile:
        found = read(model)
        inputs, outputs = (
            tuple(replace(value, dtype="", device_dtype="", quantization=None) for value in side)
            for side in (found.inputs, found.outputs)
        )
        return replace(found, inputs=inputs, outputs=outputs)

    monkeypatch.setattr(reader, "read_rknn", forgetful)


def batched(batch: int) -> Model:
    """The file with several sets of shapes, at one of them."""
    return Model(
        (Tensor("image", "float16", (batch, 3, 4, 4), "nhwc"),),
        (Tensor("features", "float16", (batch, 4, 4, 4), "nchw"), Tensor("grown", "float16", (batch, 4, 4, 4), "nchw")),
        custom="größer",
    )


@pytest.mark.parametrize("batch", [2, 1])
def test_one_of_several_sets_of_shapes(emulator: Emulator, batch: int) -> None:
    model = batched(batch)
    providers = [("RKNNExecutionProvider", {"shapes": f"image={batch}x3x4x4"})]
    path = real_path("formats_dynamic_rk3588")
    with ort_rknn.InferenceSession(path, providers=providers, device=npu(emulator)) as session:
        assert session.get_outputs()[1].shape == [batch, 4, 4, 4]
        same(session.run(None, feed(model)), right(model, list(feed(model).values())))
        jobs = [session.submit(None, feed(model, seed)) for seed in range(6)]
        for seed, job in enumerate(jobs):
            same(job.result(20), right(model, list(feed(model, seed).values())))
        assert emulator.count("rknn_set_input_shapes") >= 1


def test_all_sets_of_shapes(emulator: Emulator) -> None:
    """The feed chooses."""
    with ort_rknn.InferenceSession(real_path("formats_dynamic_rk3588"), device=npu(emulator)) as session:
        assert session.get_inputs()[0].shape == [None, 3, 4, 4]
        assert session.get_modelmeta().producer_name == "rknn-toolkit2"
        jobs = []
        for seed in range(8):
            model = batched(1 + seed % 2)
            given = feed(model, seed)
            same(session.run(None, given), right(model, list(given.values())))
            jobs.append((session.submit(None, given), right(model, list(given.values()))))
        for job, expected in jobs:
            same(job.result(20), expected)
        with pytest.raises(InvalidArgument, match=r"no code for these input shapes; there is image=2x3x4x4, image=1x3"):
            session.run(None, feed(batched(3)))


@pytest.mark.parametrize("name", [IMAGE, "formats_dynamic_rk3588"])
@pytest.mark.parametrize("by", ["path", "bytes"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "5"}, r"schedule \[5\] names core 5, but the device has 3 core\(s\): 0, 1, 2"),
        ({"schedule": "7,3"}, r"schedule \[7, 3\] names core 3, but the device has 3 core\(s\)"),
        ({"schedule": "0,3"}, r"schedule \[0, 3\] names core 3, but"),
    ],
)
def test_cores_the_device_does_not_have(
    emulator: Emulator, name: str, by: str, options: dict[str, str], said: str
) -> None:
    path = real_path(name)
    providers = [("RKNNExecutionProvider", options)]
    with pytest.raises(ort_rknn.InvalidOption, match=said):
        ort_rknn.InferenceSession(
            path if by == "path" else path.read_bytes(), providers=providers, device=npu(emulator)
        )
    assert emulator.count("rknn_init") == 0


@pytest.mark.parametrize("name", [IMAGE, TOKENS, "formats_dynamic_rk3588"])
@pytest.mark.parametrize("by", ["path", "bytes"])
def test_types_the_file_does_not_say_are_the_runtimes(
    emulator: Emulator, name: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = real_path(name)
    model = path if by == "path" else path.read_bytes()
    with ort_rknn.InferenceSession(model, device=npu(emulator)) as session:
        expected = [(one.name, one.type, one.shape) for one in (*session.get_inputs(), *session.get_outputs())]
    forget_types(monkeypatch)
    with ort_rknn.InferenceSession(model, device=npu(emulator)) as session:
        shown = [(one.name, one.type, one.shape) for one in (*session.get_inputs(), *session.get_outputs())]
        assert shown == expected
        if name in REAL:
            same(session.run(None, feed(REAL[name])), right(REAL[name], list(feed(REAL[name]).values())))


def test_types_nobody_knows(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_types(monkeypatch)
    monkeypatch.setattr("ort_rknn.devices.rknnrt.device.io_types", lambda library, handle: {})
    with pytest.raises(InvalidGraph, match=r"does not say what type 'x' is \(unknown\); where it runs on device 'npu'"):
        ort_rknn.InferenceSession(real_path(IMAGE), device=npu(emulator))
    emulator.configure(fault="rknn_init@1x*=-6")
    with pytest.raises(Fail, match="cannot run this compiled model: rknn_init failed: RKNN_ERR_MODEL_INVALID"):
        ort_rknn.InferenceSession(real_path(IMAGE), device=npu(emulator))


def test_a_device_that_refuses(emulator: Emulator) -> None:
    emulator.configure(fault="rknn_init@1x*=-6")
    with pytest.raises(Fail, match="cannot run this compiled model: rknn_init failed: RKNN_ERR_MODEL_INVALID"):
        ort_rknn.InferenceSession(real_path(IMAGE), device=npu(emulator))


def test_what_cannot_be_opened(emulator: Emulator, tmp_path: Path) -> None:
    with pytest.raises(Fail, match="runs on an NPU only: no NPU can be used"):
        ort_rknn.InferenceSession(real_path(IMAGE))
    with pytest.raises(Fail, match="device 'simulator' runs a segment's ONNX"):
        ort_rknn.InferenceSession(real_path(IMAGE), device="simulator")
    with pytest.raises(Fail, match="compiled for rk3566, and this is a rk3588"):
        ort_rknn.InferenceSession(real_path("image_fp16_rk3566"), device=npu(emulator))
    damaged = tmp_path / "model.rknn"
    damaged.write_bytes(b"RKNN\0\0\0\0" + b"x" * 100)
    with pytest.raises(InvalidGraph, match=r"model\.rknn: damaged"):
        ort_rknn.InferenceSession(damaged, device=npu(emulator))
    shapes = [("RKNNExecutionProvider", {"shapes": "image=5x3x4x4"})]
    with pytest.raises(InvalidGraph, match="not compiled for these input shapes"):
        ort_rknn.InferenceSession(real_path("formats_dynamic_rk3588"), providers=shapes, device=npu(emulator))


def providers(emulator: Emulator, **more: Any) -> Any:
    options = {"device": "npu", "runtime_library": str(emulator.path), "target": "rk3588", **more}
    return [("RKNNExecutionProvider", options)]


def test_sessions_that_share_weights(emulator: Emulator) -> None:
    """By provider options alone; whoever loaded them is closed first."""
    before = emulator.count("dma_bytes")
    owner = ort_rknn.InferenceSession(real_path(IMAGE), providers=providers(emulator))
    weights = emulator.count("dma_bytes") - before
    sharer = ort_rknn.InferenceSession(real_path(IMAGE), providers=providers(emulator, share_weights=True, schedule=1))
    given = feed(REAL[IMAGE])
    jobs = [session.submit(None, given) for session in (owner, sharer) for _ in range(8)]
    for job in jobs:
        same(job.result(20), right(REAL[IMAGE], list(given.values())))
    assert emulator.count("dma_bytes") - before == weights
    owner.close()
    assert emulator.count("dma_bytes") - before == weights
    same(sharer.run(None, given), right(REAL[IMAGE], list(given.values())))
    sharer.close()
    assert emulator.count("contexts") == 0


def test_shapes_of_a_dynamic_file_do_not_share_its_weights_as_the_runtime_refuses_it(emulator: Emulator) -> None:
    before, counts = emulator.count("dma_bytes"), []
    for share in (False, True):
        path = real_path("formats_dynamic_rk3588")
        with ort_rknn.InferenceSession(path, providers=providers(emulator, share_weights=share)) as session:
            for batch in (1, 2):
                model = batched(batch)
                same(session.run(None, feed(model)), right(model, list(feed(model).values())))
            counts.append(emulator.count("dma_bytes") - before)
    assert counts[0] == counts[1] > 0


def test_what_the_npu_says_of_itself(emulator: Emulator) -> None:
    emulator.configure(latency_us=1500)
    asked = providers(emulator, collect_perf=True, sram=1, priority="low", init_flags="0x2000")
    with ort_rknn.InferenceSession(real_path(IMAGE), providers=asked) as session:
        assert emulator.count("init_flags") == 0x2000 | 0x800 | 0x8 | 0x2
        session.run(None, feed(REAL[IMAGE]))
        (facts,) = session.contexts()
        assert facts["memory"]["weights"] > 0
        assert facts["run_s"] == 0.0015
        assert "Emulated NPU 1500" in facts["layers"]
    plain = ort_rknn.InferenceSession(onnx_model("two"), providers=["CPUExecutionProvider"])
    assert plain.contexts() == []
