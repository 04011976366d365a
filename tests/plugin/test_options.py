"""Provider options: by the names and meanings they have in the package's sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from ort_rknn.options.table import OPTIONS, RknnOptions
from tests.helpers.emulator import Emulator, Model, Tensor
from tests.helpers.plugin import NAME, VERSION, one_segment, plugin_session

Error = onnxruntime.capi.onnxruntime_pybind11_state
OLD = VERSION < (1, 25)
InvalidArgument = RuntimeError if OLD else Error.InvalidArgument  # onnxruntime passed on the words, not the class
EPFail = RuntimeError if OLD else Error.EPFail
BYTES = one_segment(Model((Tensor("x", "float16", (1, 4)),), (Tensor("y", "float16", (1, 4)),)))
KNOWN = (
    "target, runtime_library, priority, sram, share_sram, init_flags, schedule, tp_mode, threads_per_core, "
    "performance_hint, run_timeout_ms, disable_dup_context, half_inputs"
)


def test_unknown_options_are_errors_that_list_the_known(plugin: Emulator) -> None:
    for name in ("nonsense", "cache_dir", "sequential_callbacks"):
        with pytest.raises(InvalidArgument, match=f"unknown option '{name}' of the plugin .*: {KNOWN}"):
            plugin_session(BYTES, **{name: "1"})


def test_all_names_are_the_packages() -> None:
    assert set(KNOWN.split(", ")) <= set(OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "rk9"}, "unknown target 'rk9'. Known targets: rk3588, rk3576"),
        ({"priority": "top"}, "priority' must be normal, high, medium or low, not 'top'"),
        ({"sram": "maybe"}, "sram' must be true or false, not 'maybe'"),
        ({"threads_per_core": "0"}, "threads_per_core' must be a whole number from 1 to 64, not '0'"),
        ({"threads_per_core": "2x"}, "not '2x'"),
        ({"run_timeout_ms": "-1"}, "run_timeout_ms' must be a whole number from 0"),
        ({"init_flags": "a"}, "init_flags' must be"),
        ({"schedule": "0,,1"}, "schedule' must be core numbers"),
        ({"schedule": "a"}, "schedule' must be core numbers"),
        ({"schedule": "-1"}, "schedule' must be core numbers"),
        ({"tp_mode": "0,2"}, "tp_mode' must be auto, all, 0, 1, 2, '0,1' or '0,1,2', not '0,2'"),
        ({"performance_hint": "fast"}, "performance_hint' must be none, latency or throughput"),
        ({"schedule": "0", "tp_mode": "0"}, "schedule and tp_mode exclude each other"),
        ({"schedule": "0", "performance_hint": "latency"}, "performance_hint chooses the cores itself"),
    ],
)
def test_values_that_make_no_sense(plugin: Emulator, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        plugin_session(BYTES, **options)
    with pytest.raises((ValueError, RuntimeError)):
        RknnOptions.parse(options)


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, 0),
        ({"priority": "medium"}, 1),
        ({"priority": "normal"}, 0),
        ({"priority": "low", "sram": "on"}, 0x802),
        ({"share_sram": "YES"}, 0x1800),
        ({"init_flags": "0x40", "sram": "false"}, 0x40),
        ({"priority": "", "init_flags": "8"}, 8),
    ],
)
def test_flags_of_the_runtime(plugin: Emulator, options: dict[str, str], flags: int) -> None:
    plugin_session(BYTES, **options)
    assert plugin.count("init_flags") == flags


def test_a_library_that_is_none(plugin: Emulator, tmp_path: Any) -> None:
    with pytest.raises(EPFail, match=r"librknnrt.so was not found; .* option runtime_library. Tried: .*no.so"):
        plugin_session(BYTES, runtime_library=tmp_path / "no.so")
    with pytest.raises(EPFail, match="has no rknn_init: it is no librknnrt"):
        plugin_session(BYTES, runtime_library="libm.so.6")


def test_the_target_of_the_environment(plugin: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_TARGET", "nothing")
    with pytest.raises(InvalidArgument, match="unknown target 'nothing'"):
        plugin_session(BYTES)


def test_by_name_in_providers(plugin: Emulator) -> None:
    """From onnxruntime 1.25 on."""
    if OLD:
        pytest.skip("this onnxruntime does not take plugins by name")
    session = onnxruntime.InferenceSession(BYTES, providers=[(NAME, {"tp_mode": "all"})])
    assert session.get_providers()[0] == NAME
    assert session.run(None, {"x": np.zeros((1, 4), np.float32)})[0].shape == (1, 4)
