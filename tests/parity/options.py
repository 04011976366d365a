"""Cases: session options, run options, OrtValues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.ort_models import model
from tests.helpers.parity import Bench, case, cases

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
B = np.arange(6, dtype=np.float32).reshape(3, 2)
FEED = {"A": A, "B": B}


def _with(change: Any, name: str = "two", feed: Any = None) -> Any:
    def run(t: Bench) -> Any:
        options = t.ort.SessionOptions()
        change(options, t)
        session = t.open(model(name), options)
        shown = session.get_session_options()
        return [
            str(shown.graph_optimization_level),
            shown.intra_op_num_threads,
            [str(value) for value in (*session.get_inputs(), *session.get_outputs())],
            session.run(None, FEED if feed is None else feed),
        ]

    return run


def _set(name: str, value: Any) -> Any:
    return _with(lambda options, t: setattr(options, name, value(t) if callable(value) else value))


def _entry(key: str, value: Any) -> Any:
    return _with(lambda options, t: options.add_session_config_entry(key, value))


def _pin(options: Any, t: Bench) -> None:
    options.add_free_dimension_override_by_name("N", 3)


def _pin_unknown(options: Any, t: Bench) -> None:
    options.add_free_dimension_override_by_name("M", 3)


cases(
    "option",
    {
        "level_off": _set("graph_optimization_level", lambda t: t.ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
        "level_basic": _set("graph_optimization_level", lambda t: t.ort.GraphOptimizationLevel.ORT_ENABLE_BASIC),
        "level_int": _set("graph_optimization_level", 1),
        "threads": _set("intra_op_num_threads", 1),
        "threads_text": _set("intra_op_num_threads", "1"),
        "inter_threads": _set("inter_op_num_threads", 2),
        "parallel": _set("execution_mode", lambda t: t.ort.ExecutionMode.ORT_PARALLEL),
        "no_arena": _set("enable_cpu_mem_arena", False),
        "no_pattern": _set("enable_mem_pattern", False),
        "severity": _set("log_severity_level", 3),
        "logid": _set("logid", "mine"),
        "deterministic": _set("use_deterministic_compute", True),
        "unknown_field": _set("nope", 1),
        "global_threads": _set("use_per_session_threads", False),
        "unknown_entry": _entry("my.key", "my value"),
        "entry_int": _entry("my.key", 1),
        "empty_entry": _entry("", "x"),
        "long_entry": _entry("k", "v" * 9000),
        "denormals": _entry("session.set_denormal_as_zero", "1"),
        "spinning": _entry("session.intra_op.allow_spinning", "0"),
        "ort_format": _entry("session.load_model_format", "ORT"),
        "onnx_format": _entry("session.load_model_format", "ONNX"),
        "pinned": _with(_pin, "dynamic", {"X": A}),
        "pinned_wrong_feed": _with(_pin, "dynamic", {"X": A[:2]}),
        "pinned_unknown": _with(_pin_unknown, "dynamic", {"X": A}),
        "pinned_to_nothing": _with(
            lambda options, t: options.add_free_dimension_override_by_name("N", -5), "dynamic", {"X": A}
        ),
        "pinned_nothing_open": _with(_pin),
        "cancelled": _with(lambda options, t: options.set_load_cancellation_flag(True)),
        "policy": _with(
            lambda options, t: options.set_provider_selection_policy(t.ort.OrtExecutionProviderDevicePolicy.PREFER_CPU)
        ),
    },
)


@case
def replaced_weight(t: Bench) -> Any:
    options = t.ort.SessionOptions()
    weight = t.ort.OrtValue.ortvalue_from_numpy(np.eye(2, dtype=np.float32))
    options.add_initializer("W", weight)
    return t.open(model("two"), options).run(None, FEED)


@case
def options_are_copied(t: Bench) -> Any:
    options = t.ort.SessionOptions()
    session = t.open(model("two"), options)
    options.intra_op_num_threads = 3
    shown = session.get_session_options()
    return [shown is options, shown.intra_op_num_threads, isinstance(shown, t.ort.SessionOptions)]


@case
def options_entries_are_shown(t: Bench) -> Any:
    options = t.ort.SessionOptions()
    options.add_session_config_entry("my.key", "value")
    shown = t.open(model("two"), options).get_session_options()
    return [shown.get_session_config_entry("my.key"), shown.get_session_config_entry("none")]


@case
def options_used_twice(t: Bench) -> Any:
    options = t.ort.SessionOptions()
    return [t.open(model("two"), options).run(None, FEED) for _ in range(2)]


@case
def options_subclass(t: Bench) -> Any:
    class Mine(t.ort.SessionOptions):  # type: ignore[name-defined,misc]
        pass

    options = Mine()
    options.extra = 5
    return [options.extra, t.open(model("two"), options).run(None, FEED)]


@case
def options_defaults(t: Bench) -> Any:
    options = t.ort.SessionOptions()
    names = [name for name in dir(options) if not name.startswith("_")]
    fields = [name for name in names if not callable(getattr(options, name))]
    return [names, [(name, str(getattr(options, name))) for name in fields], options.has_providers()]


@case
def options_add_unknown_provider(t: Bench) -> Any:
    t.ort.SessionOptions().add_provider("Bogus", {})


@case
def options_add_absent_provider(t: Bench) -> Any:
    t.ort.SessionOptions().add_provider("CUDAExecutionProvider", {})


@case
def options_bad_library(t: Bench) -> Any:
    t.ort.SessionOptions().register_custom_ops_library("nope.so")


@case
def optimized_model_is_written(t: Bench) -> Any:
    path = Path(t.folder) / "optimized.onnx"
    options = t.ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    t.ort.InferenceSession(model("two"), options, providers=["CPUExecutionProvider"])
    return path.exists()


@case
def profile_is_written(t: Bench) -> Any:
    options = t.ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(t.folder) / "profile")
    session = t.open(model("two"), options)
    session.run(None, FEED)
    name = session.end_profiling()
    return [Path(name).read_text()[0], session.end_profiling(), len(list(Path(t.folder).glob("profile*")))]


# Run options.
def _ran(change: Any) -> Any:
    def run(t: Bench) -> Any:
        options = t.ort.RunOptions()
        change(options)
        return t.open(model("two")).run(["K", "Y"], FEED, options)

    return run


cases(
    "run-option",
    {
        "default": _ran(lambda options: None),
        "terminate": _ran(lambda options: setattr(options, "terminate", True)),
        "logid": _ran(lambda options: setattr(options, "logid", "x")),
        "severity": _ran(lambda options: setattr(options, "log_severity_level", 3)),
        "bad_severity": _ran(lambda options: setattr(options, "log_severity_level", 9)),
        "only_path": _ran(lambda options: setattr(options, "only_execute_path_to_fetches", True)),
        "entry": _ran(lambda options: options.add_run_config_entry("a.b", "c")),
        "shrink": _ran(lambda options: options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")),
        "bad_shrink": _ran(
            lambda options: options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "nope:0")
        ),
    },
)


@case
def run_options_of_wrong_type(t: Bench) -> Any:
    try:
        t.open(model("two")).run(None, FEED, {"a": 1})
    except TypeError:
        return "TypeError"


@case
def terminate_then_reset(t: Bench) -> Any:
    options = t.ort.RunOptions()
    session = t.open(model("two"))
    options.terminate = True
    try:
        session.run(None, FEED, options)
    except Exception as error:
        options.terminate = False
        return [type(error).__name__, session.run(None, FEED, options)]


# OrtValues.
@case
def feed_ort_value(t: Bench) -> Any:
    value = t.ort.OrtValue.ortvalue_from_numpy(A)
    return t.open(model("two")).run(None, {"A": value, "B": B})


@case
def feed_ort_value_wrong_dtype(t: Bench) -> Any:
    return t.open(model("two")).run(None, {"A": t.ort.OrtValue.ortvalue_from_numpy(A.astype(np.float64)), "B": B})


@case
def feed_ort_value_wrong_dims(t: Bench) -> Any:
    return t.open(model("two")).run(None, {"A": t.ort.OrtValue.ortvalue_from_numpy(A[:2]), "B": B})


def _values(t: Bench, **arrays: Any) -> dict[str, Any]:
    return {name: t.ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}


def _with_values(names: Any, **arrays: Any) -> Any:
    def run(t: Bench) -> Any:
        results = t.open(model("two")).run_with_ort_values(names, _values(t, **arrays))
        return [[type(value).__name__, value.data_type(), value.device_name(), value.numpy()] for value in results]

    return run


cases(
    "ort-values",
    {
        "all": _with_values(None, A=A, B=B),
        "named": _with_values(["K"], A=A, B=B),
        "double": _with_values(["K", "K"], A=A, B=B),
        "unknown": _with_values(["Z"], A=A, B=B),
        "missing": _with_values(None, A=A),
        "extra": _with_values(None, A=A, B=B, Q=A),
        "dtype": _with_values(None, A=A.astype(np.float64), B=B),
        "dims": _with_values(None, A=A[:2], B=B),
    },
)


@case
def ort_values_of_arrays(t: Bench) -> Any:
    return t.open(model("two")).run_with_ort_values(None, FEED)


@case
def ort_value_vector(t: Bench) -> Any:
    from onnxruntime.capi import _pybind_state as C

    session = t.open(model("two"))
    values = [value._ortvalue for value in _values(t, A=A, B=B).values()]
    feeds, fetches = C.OrtValueVector(), C.OrtValueVector()
    for value in values:
        feeds.push_back(value)
    device = C.OrtDevice(C.OrtDevice.cpu(), C.OrtDevice.default_memory(), 0)
    session.run_with_ortvaluevector(t.ort.RunOptions(), ["A", "B"], feeds, ["Y", "K"], fetches, [device, device])
    return [fetches[index].numpy() for index in range(len(fetches))]
