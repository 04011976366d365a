"""Sessions: where they run, what they say of it, what bad options and files do, and that dropping one frees it."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, NoSuchFile

import ort_rknn
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.errors import DeviceError, DeviceUnavailable, InvalidOption, SessionClosed
from ort_rknn.sessions.npu import NpuSession
from tests.helpers.ort_models import model
from tests.helpers.threads import together
from tests.helpers.versions import needs_onnxruntime

CPU, RKNN = "CPUExecutionProvider", "RKNNExecutionProvider"
A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
FEED = {"A": A, "B": A}
ROOT = Path(__file__).resolve().parents[3]

Open = Callable[..., Any]


def cpu_results(name: str = "two", feed: Any = None) -> list[Any]:
    session = onnxruntime.InferenceSession(model(name), providers=[CPU])
    results: list[Any] = session.run(None, FEED if feed is None else feed)
    return results


def same(results: Any, expected: Any) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(results, expected, strict=True))


# --- what it is -------------------------------------------------------------------------------------------------------


def test_it_is_onnxruntimes_class(npu_session: Open) -> None:
    assert issubclass(ort_rknn.InferenceSession, onnxruntime.InferenceSession)
    assert isinstance(npu_session(), onnxruntime.InferenceSession)


def test_a_session_with_no_npu_part_has_none_of_our_code_in_run() -> None:
    session = ort_rknn.InferenceSession(model("two"), providers=[CPU])
    assert type(session._sess) is onnxruntime.capi.onnxruntime_pybind11_state.InferenceSession
    for name in ("run", "run_with_ort_values", "run_with_iobinding", "get_inputs", "get_providers"):
        ours, theirs = getattr(ort_rknn.InferenceSession, name), getattr(onnxruntime.InferenceSession, name)
        assert ours is theirs, name


def test_a_session_with_an_npu_part_lists_both_providers(npu_session: Open) -> None:
    session = npu_session(max_queue_size=5)
    assert session.get_providers() == [RKNN, CPU]
    options = session.get_provider_options()
    assert list(options) == [RKNN, CPU]
    assert options[RKNN]["max_queue_size"] == "5"
    assert options[CPU] == {}
    assert isinstance(session._rknn_native, NpuSession)
    again = ort_rknn.InferenceSession(
        model("two"), providers=session.get_providers(), provider_options=list(options.values()), device="simulator"
    )
    assert again.get_provider_options() == options


def test_the_plan_says_what_runs_where(npu_session: Open) -> None:
    plan = npu_session("mixed").plan
    assert [segment.name for segment in plan.segments] == ["npu_0"]
    assert "NonZero" in str(plan)
    plan = ort_rknn.InferenceSession(model("two"), providers=[CPU]).plan
    assert plan.segments == ()
    assert "RKNNExecutionProvider is not in the list of providers" in plan.notes[0]


def test_private_metadata_is_not_shown(npu_session: Open) -> None:
    meta = npu_session().get_modelmeta()
    assert meta.custom_metadata_map == {"names": "a,b,c"}
    assert meta.producer_name == "tests"


@needs_onnxruntime("1.24", "assignments can be recorded")
def test_assignment_is_told_when_recorded(npu_session: Open) -> None:
    options = ort_rknn.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    info = npu_session("mixed", options).get_provider_graph_assignment_info()
    assert [(graph.ep_name, [node.op_type for node in graph.get_nodes()]) for graph in info] == [
        (RKNN, ["Conv", "Relu"]),
        (CPU, ["NonZero"]),
    ]


# --- which device -----------------------------------------------------------------------------------------------------


def test_device_objects_and_factories_are_taken(npu_session: Open) -> None:
    device = FakeDevice(
        2, gated=False, compute=lambda code, inputs: [np.full(o.shape, 7, o.dtype) for o in code.outputs]
    )
    for given in (device, lambda: device):
        assert (npu_session(device=given).run(None, FEED)[0] == 7).all()


def test_the_environment_names_the_device(npu_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    session = ort_rknn.InferenceSession(model("two"), providers=[(RKNN, {"min_gain": 0}), CPU])
    assert session.get_providers() == [RKNN, CPU]
    assert ort_rknn.InferenceSession(model("two"), providers=[CPU]).get_providers() == [CPU]
    monkeypatch.setenv("ORT_RKNN_PROMOTE_CPU", "1")
    big = ort_rknn.InferenceSession(model("two"), providers=[CPU])
    assert "cost" not in big.plan.notes
    assert big.plan.target == "rk3588"  # it was planned for the NPU, whatever the cost rule made of it


def test_without_a_device_it_runs_on_the_cpu_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ort_rknn.opening.resolution._said", set())
    with caplog.at_level(logging.WARNING, "ort_rknn"):
        for _ in range(3):
            session = ort_rknn.InferenceSession(model("two"))
            assert session.get_providers() == [CPU]
    assert len(caplog.records) == 1
    assert "ORT_RKNN_DEVICE=simulator" in caplog.text
    assert "NPU" in session.plan.notes[0]


def test_nothing_is_said_when_the_npu_was_not_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "ort_rknn"):
        ort_rknn.InferenceSession(model("two"), providers=[CPU])
        ort_rknn.InferenceSession(model("two"), device="cpu")
    assert caplog.records == []


def test_a_device_that_cannot_open_leaves_the_model_on_the_cpu(
    npu_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeDevice):
        def open(self, *_: Any, **__: Any) -> Any:
            raise DeviceUnavailable("the fuse is blown")

    session = npu_session(device=Broken(1), npu=False)
    assert same(session.run(None, FEED), cpu_results())
    assert "the fuse is blown" in session.plan.notes[-1]
    assert "the fuse is blown" in caplog.text


def test_a_device_factory_that_fails_is_reported(npu_session: Open) -> None:
    def none() -> Any:
        raise DeviceUnavailable("no such board")

    session = npu_session(device=none, npu=False)
    assert "no such board" in session.plan.notes[-1]


def test_a_failing_inference_is_that_calls_error(npu_session: Open) -> None:
    def fail(code: Any, inputs: Any) -> Any:
        raise DeviceError("rknn_run failed", call="rknn_run", code=-1)

    session = npu_session(device=FakeDevice(1, gated=False, compute=fail))
    with pytest.raises(DeviceError, match="rknn_run failed"):
        session.run(None, FEED)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["nope.onnx", b"garbage"])
def test_options_are_read_before_the_model(source: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        {"providers": [(RKNN, {"nope": 1}), CPU]},
        {"providers": [RKNN, CPU], "provider_options": [{"nope": 1}, {}]},
    ):
        with pytest.raises(
            InvalidOption, match=r"unknown RKNNExecutionProvider option 'nope'\. Known options: device,"
        ):
            ort_rknn.InferenceSession(source, **arguments)
    with pytest.raises(InvalidOption, match="'device' must be one of"):
        ort_rknn.InferenceSession(source, device="abacus")
    with pytest.raises(ValueError, match="Known targets: rk3588"):
        ort_rknn.InferenceSession(source, providers=[(RKNN, {"target": "rk1"})])
    assert capsys.readouterr().out == ""


def test_an_option_the_device_cannot_serve_is_an_error_too(
    npu_session: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidOption, match="names core 7"):
        npu_session(schedule=7)
    session = npu_session()
    with pytest.raises(InvalidOption, match="names core 7"):
        session.set_providers([(RKNN, {"device": "simulator", "min_gain": 0, "schedule": 7})])
    assert capsys.readouterr().out == ""


def test_set_providers_goes_to_the_cpu_and_back(npu_session: Open) -> None:
    session = npu_session()
    session.set_providers([CPU])
    assert session.get_providers() == [CPU]  # the keyword device= asked for it, but only when it was made
    session.set_providers([(RKNN, {"min_gain": 0})])
    assert session.get_providers() == [RKNN, CPU]
    plain = ort_rknn.InferenceSession(model("two"), providers=[CPU])
    plain.set_providers([(RKNN, {"device": "simulator", "min_gain": 0})])
    assert plain.get_providers() == [RKNN, CPU]
    assert same(plain.run(None, FEED), cpu_results())
    plain.set_providers([CPU])
    assert plain.get_providers() == [CPU]
    assert same(plain.run(None, FEED), cpu_results())


@needs_onnxruntime("1.23", "session options have providers")
def test_session_options_may_carry_the_provider(npu_session: Open) -> None:
    options = ort_rknn.SessionOptions()
    options.add_provider(RKNN, {"device": "simulator", "min_gain": "0"})
    session = ort_rknn.InferenceSession(model("two"), options)
    assert session.get_providers() == [RKNN, CPU]
    with pytest.warns(UserWarning, match="has already been configured with providers"):
        session = ort_rknn.InferenceSession(model("two"), options, providers=[CPU])
    assert session.get_providers() == [CPU]


def test_disable_cpu_fallback(npu_session: Open) -> None:
    def options() -> Any:
        made = ort_rknn.SessionOptions()
        made.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return made

    assert same(npu_session("two", options()).run(None, FEED), cpu_results())
    with pytest.raises(
        Fail, match="assigned to the default CPU EP, but fallback to CPU EP has been explicitly"
    ) as caught:
        npu_session("mixed", options())
    assert "On the CPU: NonZero" in str(caught.value)
    assert "(NonZero: the result's shape depends on values)" in str(caught.value)
    with pytest.raises(Fail, match=r"assigned to the default CPU EP.* On the CPU: the CPU was asked for"):
        ort_rknn.InferenceSession(model("two"), options(), providers=[(RKNN, {"device": "cpu"})])
    with pytest.raises(InvalidArgument, match="Conflicting session configuration: explicitly added the CPU EP"):
        ort_rknn.InferenceSession(
            model("two"), options(), providers=[(RKNN, {"device": "simulator", "min_gain": 0}), CPU]
        )


def test_the_optimized_model_cannot_be_written(npu_session: Open, tmp_path: Path) -> None:
    options = ort_rknn.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    with pytest.raises(Fail, match="Unable to serialize model as it contains compiled nodes"):
        npu_session("two", options)


def test_replaced_weights_keep_the_model_on_the_cpu(npu_session: Open) -> None:
    options = ort_rknn.SessionOptions()
    options.add_initializer("W", ort_rknn.OrtValue.ortvalue_from_numpy(np.eye(2, dtype=np.float32)))
    session = npu_session("two", options, npu=False)
    assert "weights were replaced" in session.plan.notes[-1]


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_open_dimensions_are_compiled_as_they_come(npu_session: Open) -> None:
    session = npu_session("dynamic")
    assert session.run(None, {"X": A[:2]})[0].shape == (2, 2)
    assert session.wait_compiled(60)
    assert [state.state for state in session.shape_states] == ["ready"]


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_free_dimension_overrides_pin(npu_session: Open, kind: str) -> None:
    options = (ort_rknn if kind == "ours" else onnxruntime.capi._pybind_state).SessionOptions()
    options.add_free_dimension_override_by_name("N", 3)
    session = npu_session("dynamic", options)
    assert same(session.run(None, {"X": A}), cpu_results("dynamic", {"X": A}))
    assert session.get_inputs()[0].shape == [3, 2]
    with pytest.raises(InvalidArgument, match="Got invalid dimensions for input: X"):
        session.run(None, {"X": A[:2]})


@pytest.mark.parametrize("options", [{"dims": {"N": 3}}, {"shapes": "X=3x2"}])
def test_options_pin_for_the_npu_and_other_shapes_run_on_the_cpu(npu_session: Open, options: Any) -> None:
    session = npu_session("dynamic", **options)
    assert session.get_inputs()[0].shape == ["N", 2]
    for rows in (3, 2, 1, 3):
        assert same(session.run(None, {"X": A[:rows]}), cpu_results("dynamic", {"X": A[:rows]}))
        assert same(session.submit(None, {"X": A[:rows]}).result(), cpu_results("dynamic", {"X": A[:rows]}))


def test_a_fed_initializer_runs_on_the_cpu(npu_session: Open) -> None:
    session = npu_session("override")
    weights = np.eye(2, dtype=np.float32)
    assert same(session.run(None, {"X": A, "W": weights}), [np.maximum(A, 0)])
    assert same(session.run(None, {"X": A}), cpu_results("override", {"X": A}))


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_onnxruntimes_error() -> None:
    with pytest.raises(NoSuchFile, match=r"Load model from nope.onnx failed:Load model nope.onnx failed. File"):
        ort_rknn.InferenceSession("nope.onnx", device="simulator")


# --- living and dying -------------------------------------------------------------------------------------------------


def test_dropping_a_session_frees_it(npu_session: Open) -> None:
    from tests.helpers.ort_models import model as content

    providers = [(RKNN, {"device": "simulator", "min_gain": 0})]
    session = ort_rknn.InferenceSession(content("two"), providers=providers)
    session.run(None, FEED)
    session.submit(None, FEED).result()
    gone = weakref.ref(session), weakref.ref(session._rknn_native), weakref.ref(session._rknn_native.engine)
    gc.disable()
    try:
        del session
        assert [ref() for ref in gone] == [None, None, None]  # at once: no cycle holds it
    finally:
        gc.enable()


def test_a_closed_session_says_so(npu_session: Open) -> None:
    session = npu_session()
    session.close()
    session.close()
    for use in (lambda: session.run(None, FEED), lambda: session.submit(None, FEED), session.end_profiling):
        with pytest.raises(SessionClosed, match="make a new one"):
            use()
    assert session.get_inputs()[0].name == "A"
    plain = ort_rknn.InferenceSession(model("two"), providers=[CPU])
    with plain as entered:
        assert entered is plain
        plain.run(None, FEED)
    with pytest.raises(SessionClosed):
        plain.run(None, FEED)


def test_many_threads_one_session(npu_session: Open) -> None:
    session = npu_session("dynamic", dims={"N": 3})
    wrong: list[Any] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(100):
            value = random.integers(-8, 8, (int(random.integers(1, 5)), 2)).astype(np.float32)
            result = session.run(None, {"X": value})[0]
            if not np.array_equal(result, np.maximum(value @ np.float32([[1, 2], [-1, 3]]), 0)):
                wrong.append((value, result))

    together(work, range(8))
    assert wrong == []


def test_node_args_keep_a_dropped_session_readable(npu_session: Open) -> None:
    names = [value.name for value in npu_session().get_outputs()]
    assert names == ["Y", "K"]


def test_a_process_that_leaves_with_jobs_in_flight_ends_well(tmp_path: Path) -> None:
    program = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "converters")!r}]
from pathlib import Path
import numpy as np, ort_rknn
from tests.helpers.toolkits.fake import fake_toolkit
from tests.helpers.ort_models import model
with fake_toolkit(Path({str(tmp_path)!r})):
    s = ort_rknn.InferenceSession(model("two"), providers=[("RKNNExecutionProvider", dict(
        device="simulator", min_gain=0, simulator_latency_ms=50))])
a = np.ones((3, 2), np.float32)
for _ in range(4):
    s.run_async(None, {{"A": a, "B": a}}, lambda r, u, e: print(len(r), e), None)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout.split()) == (0, ["2"] * 4), done.stderr
