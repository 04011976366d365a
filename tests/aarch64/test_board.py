"""Finding the board and its runtime as on a real one: nothing is named, everything is looked up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ort_rknn.devices.program import BoundNpuStep, Program
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.devices.rknnrt.lite_device import LiteDevice
from ort_rknn.devices.soc import detect
from ort_rknn.engine.engine import Engine
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import DeviceError
from ort_rknn.opening.choose_device import choose
from tests.helpers.emulated_npu import feeds, same, segment
from tests.helpers.emulator import Emulator, Model, Tensor

MODEL = Model((Tensor("x", "float16", (1, 3, 8, 8), "nhwc"),), (Tensor("y", "float16", (1, 10)),))


@pytest.mark.parametrize(
    ("names", "target", "cores"),
    [
        (("radxa,rock-5b", "rockchip,rk3588"), "rk3588", 3),
        (("radxa,rock-5a", "rockchip,rk3588s"), "rk3588", 3),
        (("friendlyelec,nanopi-m5", "rockchip,rk3576"), "rk3576", 2),
        (("rockchip,rk3566-evb", "rockchip,rk3566"), "rk3566", 1),
    ],
)
def test_the_device_tree_decides(
    emulator: Emulator, board: Callable[..., None], names: tuple[str, ...], target: str, cores: int
) -> None:
    board(*names)
    assert detect().target == target
    choice = choose("auto")
    assert isinstance(choice.device, NpuDevice)
    assert (choice.target, choice.device.cores, choice.device.native_lanes) == (target, cores, True)
    lite = choose("lite")
    assert isinstance(lite.device, LiteDevice)
    assert (lite.target, lite.device.cores) == (target, cores)


def test_no_board(board: Callable[..., None]) -> None:
    board("raspberrypi,5-model-b", "brcm,bcm2712")
    for wish in ("auto", "lite"):
        choice = choose(wish)
        assert choice.device is None
        assert "brcm,bcm2712" in choice.reason


@pytest.mark.parametrize("wish", ["npu", "lite"])
def test_an_engine_on_all_cores(emulator: Emulator, wish: str) -> None:
    emulator.configure(latency_us=50_000)  # longer than a call under emulation takes: or core 0 is always free
    choice = choose(wish)
    assert choice.device is not None
    code = segment(MODEL)
    program = Program.from_steps([BoundNpuStep("segment", ("x",), ("y",), code)], choice.device, outputs=("y",))
    engine = Engine(program, EngineOptions(threads_per_core=1))
    given = [feeds(code, seed) for seed in range(48)]  # the first lane works while others open
    jobs = [engine.submit({"x": arrays[0]}, None) for arrays in given]
    for arrays, job in zip(given, jobs, strict=True):
        same(job.result(30), MODEL.answer(arrays))
    runs = [emulator.count(f"core{core}_runs") for core in range(3)]
    assert all(runs), runs
    emulator.configure(fault="rknn_run@1=-1")
    with pytest.raises(DeviceError, match="RKNN_ERR_FAIL"):
        engine.run({"x": given[0][0]}, None)
    same(engine.run({"x": given[0][0]}, None), MODEL.answer(given[0]))
    engine.close()
