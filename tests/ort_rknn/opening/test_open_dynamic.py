"""Sessions with dynamic input shapes: the CPU first, compiled code as it comes, limits, buckets, the second process."""

from __future__ import annotations

import gc
import logging
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from ort_rknn.sessions.background_compile import CancelToken
from ort_rknn_converters.errors import ToolkitFailed, ToolkitMissing
from tests.helpers.emulated_npu import npu
from tests.helpers.emulator import Emulator, real_path
from tests.helpers.ort_models import model
from tests.helpers.threads import together
from tests.helpers.toolkits.fake import compile_in_thread, fake_toolkit

CPU, RKNN = "CPUExecutionProvider", "RKNNExecutionProvider"
WAIT_S = 30


class Compiler:
    """Stands in for the child process: converts in the background thread, when it is let."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.compiled: list[Any] = []
        self.error: Exception | None = None

    def __call__(self, content: Any, options: Any, cache_dir: Any, ticket: CancelToken) -> Any:
        self.begun.set()
        assert self.gate.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        self.compiled.append(dict(options.shapes))
        return compile_in_thread(content, options, cache_dir, ticket)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    made = Compiler()
    with fake_toolkit(tmp_path / "cache"):
        monkeypatch.setattr("ort_rknn.opening.open_dynamic.compile_in_child", made)
        yield made
        monkeypatch.undo()
    made.gate.set()


def _feed(rows: int) -> dict[str, Any]:
    return {"X": np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) - rows}


def _expected(rows: int) -> Any:
    return onnxruntime.InferenceSession(model("dynamic"), providers=[CPU]).run(None, _feed(rows))[0]


@pytest.fixture
def dynamic(compiler: Compiler) -> Iterator[Callable[..., Any]]:
    opened: list[Any] = []

    def make(sess_options: Any = None, content: Any = None, **options: Any) -> Any:
        providers = [(RKNN, {"device": "simulator", "min_gain": 0, **options}), CPU]
        session = ort_rknn.InferenceSession(content or model("dynamic"), sess_options, providers)
        opened.append(session)
        return session

    yield make
    for session in opened:
        session.close()


def _states(session: Any) -> list[str]:
    return [state.state for state in session.shape_states]


def test_the_cpu_answers_first_and_the_npu_later(dynamic: Callable[..., Any], compiler: Compiler) -> None:
    compiler.gate.clear()
    session = dynamic()
    assert session.get_providers() == [RKNN, CPU]
    assert session.get_inputs()[0].shape == ["N", 2]
    assert session.get_outputs()[0].shape == ["N", 2]
    assert session.get_modelmeta().custom_metadata_map == {"names": "a,b,c"}
    assert "open" in str(session.plan)

    assert np.array_equal(session.run(None, _feed(3))[0], _expected(3))
    assert compiler.begun.wait(WAIT_S)
    assert _states(session) == ["compiling"]
    assert not session.wait_compiled(0)
    assert "X=3x2: compiling; the CPU answers" in session.plan.notes
    assert np.array_equal(session.run(None, _feed(3))[0], _expected(3))
    assert not session._rknn_native.engines()

    compiler.gate.set()
    assert session.wait_compiled(WAIT_S)
    assert _states(session) == ["ready"]
    assert session.plan.npu_nodes == 2
    assert any(note.startswith("X=3x2: ready after") for note in session.plan.notes)
    assert np.array_equal(session.run(None, _feed(3))[0], _expected(3))
    assert session.stats().runs == 1
    assert session.get_inputs()[0].shape == ["N", 2]


def test_every_way_to_run_goes_by_the_shape(dynamic: Callable[..., Any]) -> None:
    session = dynamic()
    session.run(None, _feed(3))
    assert session.wait_compiled(WAIT_S)
    for rows in (3, 4):
        want, feed = _expected(rows), _feed(rows)
        assert np.array_equal(session.run(["Y"], feed)[0], want)
        assert np.array_equal(session.run(None, {"X": feed["X"].tolist()})[0], want)
        assert np.array_equal(session.submit(None, feed).result(WAIT_S)[0], want)
        assert np.array_equal(next(session.map(None, [feed]))[0], want)

        got: queue.Queue[Any] = queue.Queue()
        session.run_async(None, feed, lambda results, data, error: data.put((results, error)), got)
        results, error = got.get(timeout=WAIT_S)
        assert not error
        assert np.array_equal(results[0], want)

        value = ort_rknn.OrtValue.ortvalue_from_numpy(feed["X"])
        assert np.array_equal(session.run(None, {"X": value})[0], want)
        assert np.array_equal(session.run_with_ort_values(None, {"X": value})[0].numpy(), want)
        binding = session.io_binding()
        binding.bind_cpu_input("X", feed["X"])
        binding.bind_output("Y")
        session.run_with_iobinding(binding)
        assert np.array_equal(binding.copy_outputs_to_cpu()[0], want)
    assert session.wait_all(WAIT_S)
    assert session.wait_compiled(WAIT_S)
    assert _states(session) == ["ready", "ready"]


def test_npu_memory_goes_by_the_shape_too(dynamic: Callable[..., Any]) -> None:
    session = dynamic()
    session.run(None, _feed(3))
    assert session.wait_compiled(WAIT_S)
    with ort_rknn.InferenceSession(real_path("tokens_fp16_rk3588"), device=npu(Emulator())):
        for rows in (3, 4):  # on the simulator, and on onnxruntime
            binding = session.io_binding()
            x = ort_rknn.OrtValue.ortvalue_from_numpy(_feed(rows)["X"], "npu")
            binding.bind_ortvalue_input("X", x)
            binding.bind_output("Y", "npu")
            for _ in range(2):
                session.run_with_iobinding(binding)
                (y,) = binding.get_outputs()
                assert y.device_name() == "npu"
                assert np.array_equal(y.numpy(), _expected(rows))
                x.update_inplace(_feed(rows)["X"])
    assert session.stats().copied["X"].startswith("only device 'npu' shares memory")


def test_wrong_feeds_get_onnxruntimes_words_and_are_not_compiled(
    dynamic: Callable[..., Any], compiler: Compiler
) -> None:
    session = dynamic()
    plain = onnxruntime.InferenceSession(model("dynamic"), providers=[CPU])
    x = _feed(3)["X"]
    for feed in ({"X": x.astype(np.float64)}, {"X": x[0]}, {"X": np.zeros((3, 5), np.float32)}, {}, {"Z": x}):
        with pytest.raises(Exception) as theirs:
            plain.run(None, feed)
        for run in (session.run, session.run):
            with pytest.raises(type(theirs.value)) as ours:
                run(None, feed)
            assert str(ours.value) == str(theirs.value)
    assert session.run(None, {"X": np.zeros((0, 2), np.float32)})[0].shape == (0, 2)
    assert session.wait_compiled(WAIT_S)
    assert not compiler.compiled


@pytest.mark.parametrize("names", ["Y", b"Y", 5])
def test_names_that_are_no_list_are_refused_by_every_call(
    dynamic: Callable[..., Any], compiler: Compiler, names: Any
) -> None:
    compiler.gate.clear()  # nothing is compiled: onnxruntime answers
    session = dynamic()
    with pytest.raises(TypeError) as refused:
        session.run(names, _feed(3))
    with pytest.raises(TypeError) as again:
        session.submit(names, _feed(3))
    assert str(again.value) == str(refused.value)
    compiler.gate.set()


def test_a_second_session_finds_the_shape_at_its_first_call(dynamic: Callable[..., Any], compiler: Compiler) -> None:
    first = dynamic()
    first.run(None, _feed(3))
    assert first.wait_compiled(WAIT_S)
    second = dynamic()
    second.run(None, _feed(3))
    assert _states(second) == ["ready"]
    assert second.stats().runs == 1
    never = dynamic(compile="never")
    never.run(None, _feed(3))
    never.run(None, _feed(4))
    assert _states(never) == ["ready", "new"]
    assert compiler.compiled == [{"X": (3, 2)}]


def test_shapes_beyond_the_limit_stay_on_the_cpu(
    dynamic: Callable[..., Any], compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    session = dynamic(max_shapes=2)
    for rows in (1, 2, 3, 4, 3, 1):
        assert np.array_equal(session.run(None, _feed(rows))[0], _expected(rows))
        assert session.wait_compiled(WAIT_S)
    assert len(compiler.compiled) == 2
    assert "2 more on the CPU: max_shapes is 2" in session.plan.notes
    said = [record.getMessage() for record in caplog.records if "max_shapes" in record.getMessage()]
    assert said == [
        "X=3x2 and other new shapes run on the CPU: max_shapes is 2. Raise it, or list the shapes that matter (option"
        " shapes)"
    ]


def test_compile_load_compiles_at_the_first_call(dynamic: Callable[..., Any], compiler: Compiler) -> None:
    session = dynamic(compile="load")
    assert np.array_equal(session.run(None, _feed(3))[0], _expected(3))
    assert _states(session) == ["ready"]
    assert session.stats().runs == 1
    assert not compiler.compiled


def test_listed_shapes_are_ready_from_the_start(dynamic: Callable[..., Any], compiler: Compiler) -> None:
    session = dynamic(shapes="X=3x2;5x2")
    assert _states(session) == ["ready", "ready"]
    for rows in (3, 5, 4):
        assert np.array_equal(session.run(None, _feed(rows))[0], _expected(rows))
    assert session.wait_compiled(WAIT_S)
    assert not compiler.compiled  # neither in the background; 4 was not listed
    assert len(session.shape_states) == 3
    assert session.get_inputs()[0].shape == ["N", 2]


def test_a_model_of_fixed_shapes_can_be_compiled_in_the_background(
    dynamic: Callable[..., Any], compiler: Compiler
) -> None:
    compiler.gate.clear()
    session = dynamic(content=model("two"), compile="background")
    x = np.ones((3, 2), np.float32)
    before = session.run(None, {"A": x, "B": x})
    compiler.gate.set()
    assert session.wait_compiled(WAIT_S)
    assert _states(session) == ["ready"]
    assert not any("first shape" in note for note in session.plan.notes)  # it has no shapes to choose from
    after = session.run(None, {"A": x, "B": x})
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    assert session.stats().runs == 1


@pytest.mark.parametrize("feed", [{}, {"X": []}, {"X": np.float32(1)}, {"X": [[1.0, 2.0, 3.0]]}, {"Y": [[1.0, 2.0]]}])
def test_a_call_that_fits_no_shape_leaves_no_row(dynamic: Callable[..., Any], feed: dict[str, Any]) -> None:
    session = dynamic()
    with pytest.raises(Exception, match=r"missing|[Ii]nvalid|Unable"):
        session.run(None, feed)
    assert not session.shape_states
    assert not any("X=" in note for note in session.plan.notes)


@pytest.mark.parametrize("pin", ["option", "ours", "theirs"])
def test_pins_leave_one_shape(dynamic: Callable[..., Any], compiler: Compiler, pin: str) -> None:
    options: Any = ort_rknn.SessionOptions() if pin == "ours" else onnxruntime.SessionOptions()
    if pin == "option":
        session = dynamic(dims={"N": 3})
    else:
        options.add_free_dimension_override_by_name("N", 3)
        session = dynamic(options)
        assert session.get_inputs()[0].shape == [3, 2]
    assert not session.shape_states
    assert session.wait_compiled(0)
    assert session.plan.npu_nodes == 2
    assert not compiler.compiled  # it was compiled at load


def test_a_failure_is_said_and_remembered(
    dynamic: Callable[..., Any], compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    compiler.error = ToolkitFailed("the toolkit crashed", kind="crashed")
    session = dynamic()
    for _ in range(3):
        session.run(None, _feed(3))
        assert session.wait_compiled(WAIT_S)
    assert _states(session) == ["failed"]
    assert "X=3x2: on the CPU, failed because the toolkit crashed" in session.plan.notes
    assert caplog.text.count("X=3x2 stays on the CPU: the toolkit crashed") == 1


def test_without_the_toolkit_only_the_first_shape_is_tried(
    dynamic: Callable[..., Any], compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    compiler.error = ToolkitMissing("there is no rknn-toolkit2")
    session = dynamic()
    for rows in (3, 4, 5):
        session.run(None, _feed(rows))
        assert session.wait_compiled(WAIT_S)
    assert _states(session) == ["failed", "new", "new"]
    assert "no new shape is compiled: there is no rknn-toolkit2" in session.plan.notes


def test_one_at_a_time_and_close_takes_the_requests_back(dynamic: Callable[..., Any], compiler: Compiler) -> None:
    compiler.gate.clear()
    first, second = dynamic(), dynamic()
    first.run(None, _feed(3))
    assert compiler.begun.wait(WAIT_S)
    second.run(None, _feed(4))
    second.run(None, _feed(5))
    assert _states(second) == ["waiting", "waiting"]
    second.close()
    compiler.gate.set()
    assert first.wait_compiled(WAIT_S)
    assert compiler.compiled == [{"X": (3, 2)}]
    with pytest.raises(ort_rknn.SessionClosed):
        second.run(None, _feed(4))


def test_a_dropped_session_is_freed_while_it_compiles(compiler: Compiler) -> None:
    compiler.gate.clear()
    providers = [(RKNN, {"device": "simulator", "min_gain": 0})]
    session: Any = ort_rknn.InferenceSession(model("dynamic"), providers=providers)
    session.run(None, _feed(3))
    assert compiler.begun.wait(WAIT_S)
    native, ticket = weakref.ref(session._rknn_native), session._rknn_native._variants._token
    del session
    gc.collect()
    assert native() is None
    assert ticket.cancelled
    compiler.gate.set()


def test_many_threads_with_mixed_shapes(dynamic: Callable[..., Any]) -> None:
    session = dynamic(max_shapes=3)
    wants = {rows: _expected(rows) for rows in range(1, 7)}
    wrong: list[Any] = []

    def work(seed: int) -> None:
        for number in range(60):
            rows = 1 + (number * 5 + seed) % 6
            if not np.array_equal(session.run(None, _feed(rows))[0], wants[rows]):
                wrong.append(rows)

    together(work, range(6))
    assert not wrong
    assert session.wait_compiled(WAIT_S)
    assert _states(session).count("ready") == 3


def test_no_cpu_fallback_refuses_open_shapes(dynamic: Callable[..., Any]) -> None:
    options = ort_rknn.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = [(RKNN, {"device": "simulator", "min_gain": 0})]
    with pytest.raises(Exception, match="fallback to CPU EP has been explicitly disabled"):
        ort_rknn.InferenceSession(model("dynamic"), options, providers)


def test_several_shapes_must_settle_every_input(dynamic: Callable[..., Any]) -> None:
    with pytest.raises(ort_rknn.InvalidOption, match="none for n"):
        dynamic(content=model("shapes"), shapes="u=1x2;2x2;a=1x1;2x2")


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ort_rknn")
