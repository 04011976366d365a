"""Custom operators: libraries made here with the C compiler, on the emulated runtime."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ort_rknn.devices.rknnrt import device as rknnrt
from ort_rknn.devices.rknnrt.custom_ops import find_custom_ops, load_custom_ops
from ort_rknn.devices.rknnrt.device import NpuDevice
from ort_rknn.errors import DeviceError
from ort_rknn.opening.choose_device import DeviceOptions, choose
from ort_rknn.options.table import RknnOptions
from tests.helpers.emulated_npu import feeds, npu, same, segment
from tests.helpers.emulator import Emulator, Model, Tensor, compile_library

MODEL = Model((Tensor("x", "float16", (1, 8)),), (Tensor("y", "float16", (1, 8)),), needs="Swirl")
CODE = segment(MODEL)


def plugin(folder: Path, name: str, op: str = "Swirl", function: str = "get_rknn_custom_op") -> Path:
    source = folder / f"{name}.c"
    source.write_text(
        "struct op { unsigned version; int target; char type[256]; char rest[2000]; };\n"
        f'static struct op it = {{1, 1, "{op}", ""}};\nstruct op *{function}(void) {{ return &it; }}\n'
    )
    return compile_library([source], f"{name}.so")


def test_every_context_is_told(emulator: Emulator, kind: str, tmp_path: Path) -> None:
    device = npu(emulator, custom_op_paths=[plugin(tmp_path, "librkcst_swirl")])
    assert device.describe()["custom_ops"] == ["Swirl"]
    first = device.open(CODE, 1)
    second = device.open(CODE, 2, first)
    for context in (first, second):
        same(context.run(feeds(CODE)), MODEL.answer(feeds(CODE)))
    # a duplicate would not know the operators
    counts = [emulator.count(call) for call in ("rknn_init", "rknn_dup_context", "rknn_register_custom_ops")]
    assert counts == [2, 0, 2]
    device.close()


def test_without_it_the_inference_fails(emulator: Emulator, kind: str) -> None:
    context = npu(emulator).open(CODE)
    with pytest.raises(DeviceError, match="rknn_run failed"):
        context.run(feeds(CODE))
    context.close()


def test_a_refusal_leaves_no_context(emulator: Emulator, tmp_path: Path) -> None:
    device = npu(emulator, custom_op_paths=[plugin(tmp_path, "librkcst_swirl")])
    emulator.configure(fault="rknn_register_custom_ops@1=-5")
    with pytest.raises(DeviceError, match=r"rknn_register_custom_ops failed.*Operator Swirl of .*librkcst_swirl\.so"):
        device.open(CODE)


def test_what_cannot_be_used_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = plugin(tmp_path, "good")
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        ops = load_custom_ops([tmp_path / "gone.so", plugin(tmp_path, "other", function="hello"), good, good])
    assert [op.path for op in ops] == [str(good)]
    assert [record.getMessage().split(" are left out: ")[1][:22] for record in caplog.records] == [
        "[Errno 2] No such file",
        "it has no function get",
    ]
    with pytest.raises(DeviceError, match="both bring the custom operator Swirl version 1 for CPU"):
        load_custom_ops([good, plugin(tmp_path, "double")])


def test_the_options(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = plugin(tmp_path, "librkcst_one", "One")
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "librkcst_swirl.so").write_bytes(plugin(tmp_path, "librkcst_swirl").read_bytes())
    (folder / "readme.txt").touch()
    monkeypatch.setattr(rknnrt, "find_custom_ops", lambda: find_custom_ops(folder))
    options = RknnOptions.parse({"custom_op_paths": f"{one}", "custom_op_default_path": "1"})
    assert RknnOptions.parse(options.as_strings()) == options
    choice = choose(
        "npu",
        DeviceOptions(
            target="rk3588",
            runtime_library=str(emulator.path),
            custom_op_paths=options.custom_op_paths,
            custom_op_default_path=options.custom_op_default_path,
        ),
    )
    assert isinstance(choice.device, NpuDevice)
    assert choice.device.describe()["custom_ops"] == ["One", "Swirl"]
    context = choice.device.open(CODE)
    same(context.run(feeds(CODE)), MODEL.answer(feeds(CODE)))
    context.close()
