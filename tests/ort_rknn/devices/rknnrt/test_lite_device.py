"""Device lite with a made-up package: versions and surroundings that the real one under qemu does not show.

Everything else is in ``tests/aarch64``, on the real package.
"""

from __future__ import annotations

import logging
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.rknnrt import lite_device
from ort_rknn.devices.rknnrt.lite_device import LiteDevice
from ort_rknn.devices.rknnrt.lite_quirks import LOGGER, heard, well_behaved
from ort_rknn.errors import DeviceError, DeviceUnavailable
from ort_rknn.opening.choose_device import choose
from tests.helpers.emulated_npu import segment
from tests.helpers.emulator import Model, Tensor

CODE = segment(
    Model((Tensor("x", "float16", (1, 2, 2, 2)),), (Tensor("y", "float16", (2,)), Tensor("k", "int64", (1,))))
)
X = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
ANSWER: list[Any] = [np.array([1.5, 2], np.float32), np.array([7], np.float32)]


class FakeLite:
    """An ``RKNNLite`` of a version that has no steps to call."""

    made: list[FakeLite]
    init_result: Any = 0
    answer: Any = ANSWER

    def __init__(self) -> None:
        print("a line on stdout")
        logging.addLevelName(logging.INFO, "I")
        self.rknn_data: Any = None
        self.rknn_runtime = types.SimpleNamespace()
        self.calls: list[Any] = []
        self.released = 0
        FakeLite.made.append(self)

    def init_runtime(self, core_mask: int) -> Any:
        self.calls.append(("init_runtime", core_mask))
        if isinstance(self.init_result, BaseException):
            raise self.init_result
        if self.init_result:
            logging.getLogger(LOGGER).error("Catch exception when init runtime!")
            logging.getLogger(LOGGER).error("Traceback (most recent call last):\n  here\nException: it is Friday\n")
        return self.init_result

    def inference(self, inputs: list[Any], data_format: Any) -> Any:
        self.calls.append(("inference", [array.shape for array in inputs], data_format))
        if self.answer is None:
            logging.getLogger(LOGGER).error("Get outputs failed")
        return self.answer

    def get_sdk_version(self) -> str:
        return "API: 2.3.2\nDRV: 0.9.8\n"

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that looks like an RK3588 with the made-up package."""
    tree = tmp_path / "proc/device-tree/compatible"
    library = tmp_path / "usr/lib/librknnrt.so"
    for path, content in ((tree, b"rockchip,rk3588\0"), (library, b"")):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    package, api = types.ModuleType("rknnlite"), types.ModuleType("rknnlite.api")
    api.RKNNLite = FakeLite  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rknnlite", package)
    monkeypatch.setitem(sys.modules, "rknnlite.api", api)
    monkeypatch.setattr(lite_device.importlib.util, "find_spec", lambda name: name == "rknnlite")
    monkeypatch.setattr(FakeLite, "made", [], raising=False)
    return tmp_path


def test_a_version_without_steps(
    board: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = LiteDevice(root=board)
    context = device.open(CODE, 2)
    floats, integers = context.run([X])
    assert (floats.tolist(), integers.tolist(), integers.dtype) == ([1.5, 2.0], [7], np.int64)  # type: ignore[union-attr]
    (made,) = FakeLite.made
    assert made.calls == [("init_runtime", 2), ("inference", [(1, 2, 2, 2)], ["nchw"])]
    assert made.rknn_data.startswith(b"RKNNEMU")
    assert context.describe()["runtime"] == "API: 2.3.2 DRV: 0.9.8"
    monkeypatch.setattr(FakeLite, "answer", None)
    with pytest.raises(DeviceError, match=r"inference failed.*says: Get outputs failed"):
        context.run([X])
    monkeypatch.setattr(FakeLite, "answer", ANSWER[:1])
    with pytest.raises(DeviceError, match="1 output"):
        context.run([X])
    device.close()
    assert made.released == 1
    assert context.describe() == {"segment": "segment", "closed": True}
    assert capsys.readouterr() == ("", "")
    assert logging.getLevelName(logging.INFO) == "INFO"


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (-1, DeviceError, r"init_runtime failed \(-1\).*says: Catch exception.*; it is Friday; a line on stdout"),
        (OSError("no such library"), DeviceError, "no such library"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_a_failed_opening_is_released(
    board: Path, monkeypatch: pytest.MonkeyPatch, result: Any, error: type[BaseException], text: str
) -> None:
    monkeypatch.setattr(FakeLite, "init_result", result)
    with pytest.raises(error, match=text):
        LiteDevice(root=board).open(CODE)
    assert [made.released for made in FakeLite.made] == [1]


def test_files_with_several_sets_of_shapes_are_refused_with_the_reason(board: Path) -> None:
    """The package chooses the set by itself, but asks for the outputs' shapes as those of the first set."""
    dynamic = type(CODE)(**{**vars(CODE), "dynamic": True})
    with pytest.raises(DeviceError, match="does not say which one its outputs have; use device='npu'"):
        LiteDevice(root=board).open(dynamic)
    assert FakeLite.made == []


def test_what_is_missing_is_named(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceUnavailable, match="this is rk3588, not rk3566"):
        LiteDevice(root=board, target="rk3566")
    assert LiteDevice(root=board, target="rk3588s").describe()["target"] == "rk3588"
    (board / "usr/lib/librknnrt.so").unlink()
    with pytest.raises(DeviceUnavailable, match=r"/usr/lib/librknnrt\.so only"):
        LiteDevice(root=board)
    (board / "proc/device-tree/compatible").unlink()
    with pytest.raises(DeviceUnavailable, match="no Rockchip board"):
        LiteDevice(root=board)
    monkeypatch.undo()
    with pytest.raises(DeviceUnavailable, match="rknn-toolkit-lite2 is not installed"):
        LiteDevice(root=board)


def test_off_boards_the_choice_says_so() -> None:
    choice = choose("lite")
    assert choice.device is None
    assert "no NPU can be used" in choice.reason


def test_each_thread_hears_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger(LOGGER)

    def elsewhere(function: Callable[[], None]) -> None:
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    def other() -> None:
        print("theirs")
        with heard() as lines:
            logger.error("theirs")
        assert lines == ["theirs"]

    with well_behaved() as lines:
        print("mine")
        with heard() as inner:
            logger.error("within")
        elsewhere(other)
        logger.warning("only a warning")
        logger.error("mine too")
    assert inner == ["within"]
    assert lines == ["mine too", "mine"]
    assert capsys.readouterr().out == "theirs\n"


def test_a_program_that_uses_the_package_itself_keeps_its_output(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, handler = logging.getLogger(LOGGER), logging.StreamHandler()
    logger.addHandler(handler)
    with well_behaved():
        pass
    assert handler in logger.handlers
    monkeypatch.delitem(sys.modules, "rknnlite")
    with well_behaved():
        pass
    assert handler not in logger.handlers


def test_a_name_does_not_replace_the_device_tree_that_the_package_reads_itself(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (board / "proc/device-tree/compatible").unlink()
    (board / ".dockerenv").touch()
    (board / "dev/dri").mkdir(parents=True)
    (board / "dev/dri/renderD129").touch()
    with pytest.raises(DeviceUnavailable, match="or set ORT_RKNN_TARGET"):
        LiteDevice(root=board)
    monkeypatch.setenv("ORT_RKNN_TARGET", "rk3588")
    with pytest.raises(DeviceUnavailable, match=r"reads the device tree itself.*or use device='npu'"):
        LiteDevice(root=board)
