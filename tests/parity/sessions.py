"""Cases: making sessions, and asking them."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import numpy as np

from tests.helpers.ort_models import model
from tests.helpers.parity import Bench, case, cases

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
FEED = {"A": A, "B": A}


def _run(session: Any) -> Any:
    return session.run(None, FEED)


_QUESTIONS: dict[str, Any] = {
    "inputs": lambda s: [str(n) for n in s.get_inputs()],
    "outputs": lambda s: [str(n) for n in s.get_outputs()],
    "overridable": lambda s: [str(n) for n in s.get_overridable_initializers()],
    "same_node_args": lambda s: [s.get_inputs()[0] is s.get_inputs()[0], s.get_inputs() is s.get_inputs()],
    "types": lambda s: [type(s.get_inputs()[0]).__name__, type(s.get_modelmeta()).__name__],
    "meta": lambda s: [
        getattr(s.get_modelmeta(), name)
        for name in (
            "custom_metadata_map",
            "producer_name",
            "graph_name",
            "domain",
            "description",
            "graph_description",
            "version",
        )
    ],
    "input_memory": lambda s: [info.name for info in s.get_input_memory_infos()],
    "output_memory": lambda s: [info.name for info in s.get_output_memory_infos()],
    "input_epdevices": lambda s: len(s.get_input_epdevices()),
    "profiling_start": lambda s: s.get_profiling_start_time_ns(),
    "end_profiling": lambda s: s.end_profiling(),
    "tuning": lambda s: s.get_tuning_results(),
    "options": lambda s: [
        str(getattr(s.get_session_options(), name))
        for name in (
            "graph_optimization_level",
            "intra_op_num_threads",
            "inter_op_num_threads",
            "execution_mode",
            "enable_mem_pattern",
            "enable_cpu_mem_arena",
            "enable_profiling",
            "log_severity_level",
            "logid",
            "optimized_model_filepath",
            "use_per_session_threads",
        )
    ],
    "assignment_not_recorded": lambda s: s.get_provider_graph_assignment_info(),
    "last_provider": lambda s: s.get_providers()[-1],
    "cpu_options": lambda s: s.get_provider_options()["CPUExecutionProvider"],
    "option_keys_are_providers": lambda s: list(s.get_provider_options()) == s.get_providers(),
    "fallback_providers": lambda s: s._fallback_providers,
    "model_path": lambda s: s._model_path,
    "model_bytes": lambda s: len(s._model_bytes),
    "enable_fallback": lambda s: s._enable_fallback,
    "weakref": lambda s: weakref.ref(s)() is s,
    "hash": lambda s: hash(s) == hash(s) and s == s,
    "pickle": lambda s: pickle.dumps(s),
    "deepcopy": lambda s: copy.deepcopy(s),
    "copy_shares": lambda s: copy.copy(s)._sess is s._sess,
    "dynamic_options_empty": lambda s: s.set_ep_dynamic_options({}),
    "dynamic_options_unknown": lambda s: s.set_ep_dynamic_options({"ep.dynamic.workload_type": "Default"}),
    "unknown_attribute": lambda s: hasattr(s, "nope"),
}


def _ask(name: str, question: Any) -> Any:
    return lambda t: question(t.open(model(name)))


for _name in ("two", "mixed", "override", "scalar", "shapes", "zipmap", "sequence", "optional", "dynamic"):
    cases(
        f"ask-{_name}",
        {
            key: _ask(_name, ask)
            for key, ask in _QUESTIONS.items()
            if _name in ("two", "mixed") or key in ("inputs", "outputs", "overridable", "meta")
        },
    )


def _bytes_source(t: Bench) -> Any:
    return model("two")


PROVIDERS: dict[str, Any] = {
    "none": None,
    "empty": [],
    "cpu": ["CPUExecutionProvider"],
    "cpu_tuple": ("CPUExecutionProvider",),
    "cpu_with_options": [("CPUExecutionProvider", {"arena_extend_strategy": 1})],
    "absent_then_cpu": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "absent": ["CUDAExecutionProvider"],
    "unknown": ["InvalidProvider"],
    "twice": ["CPUExecutionProvider", "CPUExecutionProvider"],
    "string": "CPUExecutionProvider",
    "int": 3,
    "lower_case": ["cpuexecutionprovider"],
    "inner_list": [["CPUExecutionProvider", {}]],
    "none_inside": [None],
    "set": {"CPUExecutionProvider"},
    "azure": ["AzureExecutionProvider", "CPUExecutionProvider"],
    "options_not_dict": [("CPUExecutionProvider", 3)],
}


def _providers(value: Any, **kwargs: Any) -> Any:
    def run(t: Bench) -> Any:
        session = t.ort.InferenceSession(model("two"), providers=value, **kwargs)
        return [session.get_providers(), session.get_provider_options(), _run(session)]

    return run


cases("providers", {name: _providers(value) for name, value in PROVIDERS.items()})
cases(
    "providers-no-fallback",
    {name: _providers(value, enable_fallback=0) for name, value in PROVIDERS.items() if name not in ("none", "empty")},
)
cases(
    "provider-options",
    {
        "good": _providers(["CPUExecutionProvider"], provider_options=[{}]),
        "too_short": _providers(["CPUExecutionProvider"], provider_options=[], enable_fallback=0),
        "not_dict": _providers(["CPUExecutionProvider"], provider_options=[3], enable_fallback=0),
        "not_sequence": _providers(["CPUExecutionProvider"], provider_options=3, enable_fallback=0),
        "with_tuples": _providers([("CPUExecutionProvider", {})], provider_options=[{}], enable_fallback=0),
        "without_providers": _providers(None, provider_options=[{}]),
        "unknown_keyword": _providers(["CPUExecutionProvider"], nonsense=1),
        "disabled_optimizers": _providers(["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]),
    },
)


@case
def subclass(t: Bench) -> Any:
    class Mine(t.ort.InferenceSession):  # type: ignore[name-defined,misc]
        def __init__(self, path: Any, **kwargs: Any) -> None:
            super().__init__(path, **kwargs)
            self.kept = (path, kwargs)

        def run(self, *args: Any, **kwargs: Any) -> Any:
            return ["mine", *super().run(*args, **kwargs)]

        def __getstate__(self) -> Any:
            return self.kept

        def __setstate__(self, kept: Any) -> None:
            self.__init__(kept[0], **kept[1])  # type: ignore[misc]

    session = Mine(model("two"), providers=t.providers)
    again = Mine.__new__(Mine)
    again.__setstate__(session.__getstate__())
    return [type(session).__name__, isinstance(session, t.ort.InferenceSession), _run(session), _run(again)]


@case
def positional_arguments(t: Bench) -> Any:
    return _run(t.ort.InferenceSession(model("two"), t.ort.SessionOptions(), t.providers))


@case
def keyword_model(t: Bench) -> Any:
    return _run(t.ort.InferenceSession(path_or_bytes=model("two"), providers=t.providers))


@case
def wrong_session_options(t: Bench) -> Any:
    return _run(t.open(model("two"), {"a": 1}))


@case
def node_args_outlive_the_session(t: Bench) -> Any:
    inputs = t.open(model("two")).get_inputs()
    return [str(value) for value in inputs]


@case
def results_outlive_the_session(t: Bench) -> Any:
    return _run(t.open(model("two")))


@case
def set_providers_to_cpu(t: Bench) -> Any:
    session = t.open(model("two"))
    session.set_providers(["CPUExecutionProvider"])
    return [session.get_providers(), _run(session)]


@case
def set_providers_default(t: Bench) -> Any:
    session = t.open(model("two"))
    session.set_providers()
    return [session.get_providers()[-1], _run(session)]


@case
def set_providers_wrong(t: Bench) -> Any:
    session = t.open(model("two"))
    try:
        session.set_providers(3)
    finally:
        assert session.get_inputs() is None
    return None


@case
def set_providers_after_a_wrong_one(t: Bench) -> Any:
    session = t.open(model("two"))
    try:
        session.set_providers(["Bogus"])
    except RuntimeError as error:
        session.set_providers(["CPUExecutionProvider"])
        return [str(error), _run(session)]
    return None


@case
def disable_and_enable_fallback(t: Bench) -> Any:
    session = t.open(model("two"))
    session.disable_fallback()
    before = session._enable_fallback
    session.enable_fallback()
    return [before, session._enable_fallback]


@case
def outputs_are_fresh(t: Bench) -> Any:
    session = t.open(model("two"))
    first = _run(session)
    kept = [array.copy() for array in first]
    second = session.run(None, {"A": A * 2, "B": A})
    first[0][:] = 7
    return [kept, second, _run(session), np.shares_memory(first[0], second[0])]


@case
def outputs_do_not_alias_inputs(t: Bench) -> Any:
    session = t.open(model("int64"))
    value = np.array([1, 2], np.int64)
    result = session.run(None, {"X": value})[0]
    return [np.shares_memory(result, value), result]


@case
def raises_and_goes_on(t: Bench) -> Any:
    session = t.open(model("two"))
    for bad in ({"A": A}, {"A": A, "B": 1.0}, {"A": A, "B": A, "Q": A}):
        try:
            session.run(None, bad)
        except Exception:
            continue
    return _run(session)


@case
def kernel_failure(t: Bench) -> Any:
    return t.open(model("gather")).run(None, {"X": A, "i": np.array([9], np.int64)})


@case
def same_input_names_in_two_sessions(t: Bench) -> Any:
    one, other = t.open(model("two")), t.open(model("override"))
    return [_run(one), other.run(None, {"X": A}), _run(one)]
