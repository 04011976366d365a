"""Provider options: one table; strings and Python values; bad ones are refused with what is right."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ort_rknn.api.session import InferenceSession
from ort_rknn.devices.settings import DeviceOptions
from ort_rknn.engine.options import EngineOptions
from ort_rknn.errors import InvalidOption
from ort_rknn.options.table import OPTIONS, RknnOptions, make_provider_options
from ort_rknn_converters.options import ConvertOptions
from tests.helpers.ort_models import model


def test_every_option_says_where_its_default_comes_from() -> None:
    for option in OPTIONS.values():
        assert option.source, option.name
        assert option.doc, option.name
        assert "\n" not in option.doc


def test_every_option_reaches_something() -> None:
    used = {row.name for kind in (EngineOptions, ConvertOptions, DeviceOptions) for row in fields(kind)}
    ours = {"device", "compile", "compile_timeout_s", "cache_dir", "max_shapes"}
    only_one_answer = {"layout", "zero_copy_layout"}
    assert set(OPTIONS) - used == ours | only_one_answer


def test_a_default_is_that_of_the_class_that_uses_it() -> None:
    ours, alone = RknnOptions(), {"target", "shapes"}  # the board's own SoC; several sets of shapes
    assert ours.engine_options() == EngineOptions()
    assert ours.device_options() == DeviceOptions()
    assert ours.convert_options(target="rk3588") == ConvertOptions(target="rk3588")
    for user in (EngineOptions, ConvertOptions):
        for row in fields(user):
            if row.name in OPTIONS and row.name not in alone:
                assert getattr(ours, row.name) == getattr(user(), row.name), row.name


def test_a_session_reads_its_options_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    parse = RknnOptions.parse
    monkeypatch.setattr(RknnOptions, "parse", lambda values=None: (read.append(values), parse(values))[1])
    InferenceSession(model("two"), providers=[("RKNNExecutionProvider", {"device": "cpu"}), "CPUExecutionProvider"])
    InferenceSession(model("two"))
    assert read == [{"device": "cpu"}, None]


@pytest.mark.parametrize(
    ("name", "given_value", "parsed"),
    [
        ("device", "Simulator", "simulator"),
        ("target", "RK3588S", "rk3588"),
        ("schedule", 0, (0,)),
        ("schedule", "0,1,2", (0, 1, 2)),
        ("schedule", "[0, 0, 1]", (0, 0, 1)),
        ("schedule", [2], (2,)),
        ("tp_mode", "0, 1", "0,1"),
        ("tp_mode", "ALL", "all"),
        ("enable_pacing", "on", True),
        ("enable_pacing", "0", False),
        ("enable_pacing", True, True),
        ("init_flags", "0x2000", 0x2000),
        ("init_flags", 16, 16),
        ("share_weights", "1", True),
        ("max_queue_size", "5", 5),
        ("max_queue_size", 5, 5),
        ("min_gain", "0", 0.0),
        ("min_gain", 1, 1.0),
        ("shapes", {"x": [1, 3, 8, 8]}, {"x": ((1, 3, 8, 8),)}),
        ("shapes", {"x": [[1, 3], [1, 4]], "y": "2x3"}, {"x": ((1, 3), (1, 4)), "y": ((2, 3),)}),
        ("shapes", "x=1x3; 1x4; y=2; x=1x5", {"x": ((1, 3), (1, 4), (1, 5)), "y": ((2,),)}),
        ("shapes", "x=1x3x8x8; y:0=2", {"x": ((1, 3, 8, 8),), "y:0": ((2,),)}),
        ("shapes", "{'x': (1, 3)}", {"x": ((1, 3),)}),
        ("shapes", '{"x": [1, 3]}', {"x": ((1, 3),)}),
        ("shapes", "s=", {"s": ((),)}),
        ("dims", "batch=1;a + b=7", {"batch": 1, "a + b": 7}),
        ("dims", {"batch": 1}, {"batch": 1}),
        ("cpu_ops", "Conv, Relu", frozenset({"Conv", "Relu"})),
        ("cpu_ops", ["Conv"], frozenset({"Conv"})),
        ("cpu_nodes", "", frozenset()),
        ("simulator_cores", None, None),
        ("simulator_latency_ms", "2.5", 2.5),
    ],
)
def test_values_are_read(name: str, given_value: Any, parsed: Any) -> None:
    assert getattr(RknnOptions.parse({name: given_value}), name) == parsed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foo": 1}, "unknown RKNNExecutionProvider option 'foo'. Known options: device, target,"),
        ({"device": "gpu"}, "option 'device' must be one of auto, npu, lite, simulator, toolkit, cpu, not 'gpu'"),
        ({"schedule": []}, "schedule must be"),
        ({"schedule": -1}, "schedule must be"),
        ({"schedule": 1.5}, "schedule must be"),
        ({"tp_mode": "3"}, "tp_mode must be one of"),
        ({"schedule": 0, "tp_mode": "auto"}, "exclude each other"),
        ({"schedule": 0, "performance_hint": "latency"}, "performance_hint chooses the cores itself"),
        ({"enable_pacing": "perhaps"}, "must be true or false, not 'perhaps'"),
        ({"max_queue_size": 0}, "must be a whole number from 1 up, not 0"),
        ({"max_queue_size": 2.5}, "must be a whole number from 1 up, not 2.5"),
        ({"max_queue_size": True}, "must be a whole number from 1 up, not True"),
        ({"min_gain": "nan"}, "must be a number from 0 up, not 'nan'"),
        ({"min_gain": -1}, "must be a number from 0 up, not -1"),
        ({"shapes": "x"}, "must be a mapping of input name"),
        ({"shapes": "x=1xtwo"}, "must be a mapping of input name"),
        ({"shapes": "x=1;x=2;y=1;y=2;y=3"}, "equally many"),
        ({"shapes": 3}, "must be a mapping of input name"),
        ({"dims": "batch"}, "must be a mapping of dimension name"),
        ({"cpu_ops": 3}, "must be a collection of names"),
        ({"optimization_level": 4}, "optimization_level is one of 0, 1, 2, 3, not 4"),
    ],
)
def test_bad_options_say_what_is_right(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        RknnOptions.parse(options)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_an_unknown_soc_lists_the_known() -> None:
    with pytest.raises(InvalidOption, match="Known targets: rk3588, rk3576"):
        RknnOptions.parse({"target": "rk9999"})


def test_the_environment_gives_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    monkeypatch.setenv("ORT_RKNN_TARGET", "rk3576")
    assert RknnOptions.parse() == RknnOptions(device="simulator", target="rk3576")
    assert RknnOptions.parse({"device": "cpu"}).device == "cpu"
    monkeypatch.setenv("ORT_RKNN_DEVICE", "abacus")
    with pytest.raises(InvalidOption, match="environment variable ORT_RKNN_DEVICE must be one of"):
        RknnOptions.parse()


_NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "device": st.sampled_from(["auto", "simulator", "cpu", "npu"]),
            "target": st.sampled_from(["rk3588", "rk3566"]),
            "shapes": st.dictionaries(_NAMES, st.lists(st.integers(0, 9)).map(lambda dims: (tuple(dims),)), max_size=3),
            "dims": st.dictionaries(_NAMES, st.integers(0, 99), max_size=3),
            "cpu_ops": st.frozensets(_NAMES, max_size=3),
            "min_gain": st.floats(0, 1e6),
            "max_queue_size": st.integers(1, 10**6),
            "enable_pacing": st.booleans(),
            "schedule": st.lists(st.integers(0, 5), min_size=1).map(tuple),
        },
    )
)
def test_the_string_form_is_read_back(values: dict[str, Any]) -> None:
    options = RknnOptions.parse(values)
    strings = options.as_strings()
    assert all(isinstance(item, str) for pair in strings.items() for item in pair)
    assert RknnOptions.parse(strings) == options


def test_make_provider_options_checks_and_gives_strings() -> None:
    made = make_provider_options(schedule=[0, 1, 2], enable_pacing=True, max_queue_size=4)
    assert made == {"schedule": "0,1,2", "enable_pacing": "1", "max_queue_size": "4"}
    assert make_provider_options() == {}
    with pytest.raises(InvalidOption, match="Known options"):
        make_provider_options(nonsense=1)


def test_ez50_ez54_ez55_the_names_and_defaults_of_the_seed() -> None:
    """What its ``make_provider_options`` gives when nothing is said."""
    seed = {
        "layout": "original",
        "zero_copy_layout": "nhwc",
        "max_queue_size": 3,
        "threads_per_core": 1,
        "submit_timeout_ms": 10000,
        "sequential_callbacks": True,
        "schedule": None,
        "tp_mode": None,
        "enable_pacing": False,
        "disable_dup_context": False,
        "custom_op_paths": None,
        "custom_op_default_path": False,
        "half_inputs": True,
    }
    parsed = RknnOptions.parse(seed)
    ours_is_by_device = {"threads_per_core"}
    assert {name: getattr(parsed, name) for name in seed if seed[name] is not None} == {
        name: value for name, value in seed.items() if value is not None
    }
    assert all(
        seed[name] == getattr(RknnOptions(), name) for name in set(seed) - ours_is_by_device - {"custom_op_paths"}
    )
    assert RknnOptions.parse({"layout": "nchw_software"}).layout == "nchw_software"
    for name, value in (("layout", "nhwc"), ("zero_copy_layout", "native")):
        with pytest.raises(InvalidOption, match=f"{name}' must be one of"):
            RknnOptions.parse({name: value})
