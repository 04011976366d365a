from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest

from ort_rknn_converters.errors import CalibrationError, UnknownOption, UnknownTarget
from ort_rknn_converters.options import ALIASES, ConvertOptions


def test_defaults_are_valid() -> None:
    options = ConvertOptions()
    assert (options.target, options.precision, options.min_gain, options.jobs) == ("rk3588", "fp16", 1.0, 1)


def test_target_is_the_tables_own_name() -> None:
    assert ConvertOptions(target=" RK3588S ").target == "rk3588"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "fp32"),
        ("shapes", {"x": (1, -2)}),
        ("shapes", {"x": (1, True)}),
        ("shapes", {"x": "1x3"}),
        ("shapes", {"x": 3}),
        ("dims", {"N": 1.5}),
        ("cpu_ops", "Relu"),
        ("cpu_nodes", "node"),
        ("min_gain", -1),
        ("min_gain", float("nan")),
        ("min_gain", True),
        ("optimization_level", 4),
        ("verify_feeds", -1),
        ("verify_feeds", 1.0),
        ("seed", "0"),
        ("jobs", 0),
        ("timeout_s", 0),
    ],
)
def test_nonsense_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UnknownOption, match=field):
        ConvertOptions(**{field: value})


def test_kl_is_short_for_kl_divergence() -> None:
    assert ConvertOptions(quantized_algorithm="kl").quantized_algorithm == "kl_divergence"
    assert ConvertOptions(quantized_algorithm="kl").key() == ConvertOptions(quantized_algorithm="kl_divergence").key()


def test_unknown_target_lists_the_known() -> None:
    with pytest.raises(UnknownTarget, match="rk3576"):
        ConvertOptions(target="rk9999")


def test_unknown_option_lists_the_known() -> None:
    with pytest.raises(UnknownOption, match=r"unknown option colour\. Known options: target, precision"):
        ConvertOptions.of(colour="red")
    assert ConvertOptions.of(jobs=2).jobs == 2


def test_numbers_of_numpy_are_taken() -> None:
    options = ConvertOptions(shapes={"x": np.array([1, 3])}, dims={"N": np.int64(4)})  # type: ignore[dict-item]
    assert options.shapes["x"] == (1, 3)
    assert options.dims["N"] == 4


def test_key_is_canonical_json_of_what_changes_the_result() -> None:
    one = ConvertOptions(shapes={"a": (1,), "b": (2,)}, cpu_ops=frozenset({"Relu", "Add"}), jobs=4, timeout_s=5)
    two = ConvertOptions(shapes={"b": (2,), "a": (1,)}, cpu_ops=frozenset({"Add", "Relu"}))
    assert one.key() == two.key()
    assert set(json.loads(one.key())) == set(ConvertOptions.names()) - {"jobs", "max_memory", "timeout_s"}


@pytest.mark.parametrize("change", [{"target": "rk3576"}, {"dims": {"N": 1}}, {"min_gain": 0.0}, {"seed": 1}])
def test_key_differs_where_the_result_may(change: dict[str, Any]) -> None:
    assert ConvertOptions(**change).key() != ConvertOptions().key()


def test_min_gain_as_a_whole_number_has_the_same_key() -> None:
    assert ConvertOptions(min_gain=1).key() == ConvertOptions(min_gain=1.0).key()


def test_options_survive_pickling() -> None:
    options = ConvertOptions(shapes={"x": (1, 3)}, cpu_ops=frozenset({"Relu"}))
    assert pickle.loads(pickle.dumps(options)) == options


def test_options_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ConvertOptions(shapes={"x": (1,)}).shapes["x"] = (2,)  # type: ignore[index]


def test_the_class_itself_says_what_an_option_takes_and_does() -> None:
    assert ConvertOptions.allowed("precision") == ("fp16", "int8", "w4a16")
    assert ConvertOptions.allowed("optimization_level") == (0, 1, 2, 3)
    assert ConvertOptions.allowed("jobs") == ()
    docs = ConvertOptions.docs()
    assert tuple(docs) == ConvertOptions.names()
    assert docs["cpu_ops"] == "Op types that must stay on the CPU. Default: none."
    assert docs["jobs"].endswith("Default: 1 (each takes 8 times the weights in memory, measured).")


def test_the_commands_words_and_the_sessions_are_other_names() -> None:
    options = ConvertOptions.of(algorithm="mmse", method="layer", compile_timeout_s=30)
    assert options == ConvertOptions(quantized_algorithm="mmse", quantized_method="layer", timeout_s=30)
    assert set(ALIASES.values()) <= set(ConvertOptions.names())
    with pytest.raises(UnknownOption, match="give one of them"):
        ConvertOptions.of(timeout=3, timeout_s=4)


@pytest.mark.parametrize(
    "given",
    [
        {"min_gain": 10**400},
        {"timeout_s": 10**400},
        {"seed": -1},
        {"jobs": 10**400},
        {"max_memory": 1 << 70},
        {"shapes": {"x": (10**400,)}},
        {"precision": "int8", "calibration": "x.npy", "preprocess": "mean=nan"},
        {"precision": "int8", "calibration": "x.npy", "preprocess": "99999999x99999999"},
        {"values": {"x": "[" * 5000}},
        {"values": {"x": "9" * 5000}},
    ],
)
def test_numbers_that_nothing_can_have_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises((UnknownOption, CalibrationError)):
        ConvertOptions.of(**given)
