"""Behind each line of docs/compatibility.md stands a check of the same name here, and no line is without one."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as errors

import ort_rknn
from tests.helpers.emulated_npu import npu
from tests.helpers.emulator import Emulator, real_path
from tests.helpers.ort_models import model
from tests.helpers.segment_models import cnn
from tests.helpers.toolkits.fake import fake_toolkit

PAGE = Path(__file__).resolve().parents[1] / "docs" / "compatibility.md"
CPU = ["CPUExecutionProvider"]
X = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
TWO = {"A": np.ones((3, 2), np.float32), "B": np.ones((3, 2), np.float32)}

Check = Callable[[pytest.MonkeyPatch], object]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Enter a check under its name, written with hyphens."""
    CHECKS[function.__name__.replace("_", "-")] = function
    return function


def ours(source: Any = "two", options: Any = None, **given: Any) -> Any:
    """A session on the simulated NPU."""
    content = model(source) if isinstance(source, str) else source
    wanted = {"device": "simulator", "min_gain": 0, "compile": "load", **given}
    return ort_rknn.InferenceSession(content, options, [("RKNNExecutionProvider", wanted)])


def on_npu(session: Any) -> bool:
    """Whether a session has an NPU part."""
    return "RKNNExecutionProvider" in session.get_providers()


@pytest.fixture(autouse=True)
def _toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with fake_toolkit(tmp_path / "cache"):
        yield


def test_every_line_has_its_check_and_every_check_its_line() -> None:
    lines = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(lines) == sorted(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_the_page_is_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    CHECKS[name](monkeypatch)


# --- numbers and places -----------------------------------------------------------------------------------------------


@check
def fp16(_: Any) -> None:
    content = cnn().SerializeToString()
    [exact] = onnxruntime.InferenceSession(content, providers=CPU).run(None, {"x": X})
    [rounded] = ours(content).run(None, {"x": X})
    assert rounded.dtype == exact.dtype
    error = np.sqrt(np.mean((rounded - exact) ** 2) / np.mean(exact**2))
    assert 0 < error < 5e-3


@check
def first_start(_: Any) -> None:
    from ort_rknn_converters.cache.store import Cache, cache_directory

    assert Cache(cache_directory()).entries() == []
    assert on_npu(ours())
    assert len(Cache(cache_directory()).entries()) == 1


@check
def default_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ort_rknn.InferenceSession(model("two")).get_providers() == CPU
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    monkeypatch.setenv("ORT_RKNN_MIN_GAIN", "0")
    assert on_npu(ort_rknn.InferenceSession(model("two")))


@check
def promote_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    monkeypatch.setenv("ORT_RKNN_MIN_GAIN", "0")
    assert not on_npu(ort_rknn.InferenceSession(model("two"), providers=CPU))
    monkeypatch.setenv("ORT_RKNN_PROMOTE_CPU", "1")
    assert on_npu(ort_rknn.InferenceSession(model("two"), providers=CPU))


@check
def provider_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = onnxruntime.get_available_providers()
    assert ort_rknn.get_all_providers() == ["RKNNExecutionProvider", *onnxruntime.get_all_providers()]
    monkeypatch.setenv("ORT_RKNN_DEVICE", "cpu")
    assert ort_rknn.get_available_providers() == theirs
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    assert ort_rknn.get_available_providers() == ["RKNNExecutionProvider", *theirs]


@check
def no_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    from ort_rknn.opening import resolution
    from ort_rknn_converters.errors import ToolkitMissing
    from ort_rknn_converters.toolkit.setup import environment
    from tests.helpers.toolkits.fake import CONVERT

    def missing(*_: Any, **__: Any) -> Any:
        raise ToolkitMissing(environment.MISSING)

    said: list[str] = []
    monkeypatch.setattr(resolution, "_said", set())
    monkeypatch.setattr(CONVERT, "compile_segment", missing)
    monkeypatch.setattr(logging.getLogger("ort_rknn"), "warning", lambda text, *values: said.append(text % values))
    sessions = [ours() for _ in range(2)]
    assert not any(map(on_npu, sessions))
    assert sessions[0].run(None, TWO)[0].shape == (3, 2)
    assert [environment.MISSING in sentence for sentence in said] == [True]


@check
def other_shapes(_: Any) -> None:
    session = ours("dynamic", compile="never")
    feed = np.full((5, 2), 1.5, np.float32)
    [plain] = onnxruntime.InferenceSession(model("dynamic"), providers=CPU).run(["Y"], {"X": feed})
    np.testing.assert_array_equal(session.run(["Y"], {"X": feed})[0], plain)


@check
def fed_weights(_: Any) -> None:
    session = ours("override")
    feed = {"X": np.ones((3, 2), np.float32), "W": np.full((2, 2), 1 / 3, np.float32)}
    [plain] = onnxruntime.InferenceSession(model("override"), providers=CPU).run(None, feed)
    np.testing.assert_array_equal(session.run(None, feed)[0], plain)


@check
def replaced_weights(_: Any) -> None:
    options = ort_rknn.SessionOptions()
    weights = ort_rknn.OrtValue.ortvalue_from_numpy(np.eye(2, dtype=np.float32))
    options.add_initializer("W", weights)
    session = ours("two", options)
    assert not on_npu(session)
    assert "weights were replaced" in str(session.plan.notes)


# --- options ----------------------------------------------------------------------------------------------------------


@check
def unknown_options(_: Any) -> None:
    with pytest.raises(ort_rknn.InvalidOption, match=r"unknown .* option 'devise'\. Known options: device, "):
        ours(devise="npu")
    assert issubclass(ort_rknn.InvalidOption, ValueError)


@check
def optimized_model(_: Any) -> None:
    options = ort_rknn.SessionOptions()
    options.optimized_model_filepath = "optimized.onnx"
    with pytest.raises(errors.Fail, match="Unable to serialize model as it contains compiled nodes"):
        ours("two", options)


@check
def cpu_fallback(_: Any) -> None:
    options = ort_rknn.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    assert on_npu(ours("two", options))
    with pytest.raises(errors.Fail, match="fallback to CPU EP has been explicitly disabled"):
        ours("mixed", options)


@check
def threads(_: Any) -> None:
    options = ort_rknn.SessionOptions()
    options.intra_op_num_threads = 2
    assert ours("two", options).get_session_options().intra_op_num_threads == 2


@check
def terminate(_: Any) -> None:
    options = ort_rknn.RunOptions()
    options.terminate = True
    with pytest.raises(errors.Fail, match="terminate flag being set"):
        ours().run(None, TWO, options)


# --- running ----------------------------------------------------------------------------------------------------------


@check
def callback_order(_: Any) -> None:
    session, seen, done = ours(), [], threading.Event()

    def came(_results: Any, number: int, error: str) -> None:
        assert not error
        seen.append((number, threading.get_ident()))
        if len(seen) == 50:
            done.set()

    for number in range(50):
        session.run_async(None, TWO, came, number)
    assert done.wait(30)
    assert [number for number, _ in seen] == list(range(50))
    assert len({thread for _, thread in seen}) == 1


@check
def async_threads(_: Any) -> None:
    options = ort_rknn.SessionOptions()
    options.intra_op_num_threads = 1
    ended = threading.Event()
    with pytest.raises(errors.InvalidArgument, match="at least one thread"):
        onnxruntime.InferenceSession(model("two"), options, CPU).run_async(None, TWO, print, None)
    ours(options=options).run_async(None, TWO, lambda *_: ended.set())
    assert ended.wait(20)


@check
def full_queue(_: Any) -> None:
    gate = threading.Event()
    session = ours(max_queue_size=1, max_callback_queue_size=1, simulator_cores=1, submit_timeout_ms=1)

    def submit_many() -> None:
        for _ in range(20):
            session.submit(None, TWO, callback=lambda *_: gate.wait(30))

    try:
        with pytest.raises(ort_rknn.SubmitTimeout):
            submit_many()
    finally:
        gate.set()


@check
def closing(_: Any) -> None:
    session = ours()
    with session:
        session.run(None, TWO)
    with pytest.raises(ort_rknn.SessionClosed):
        session.run(None, TWO)


# --- names ------------------------------------------------------------------------------------------------------------


@check
def more_names(_: Any) -> None:
    public = {name for name in ort_rknn.__all__ if not name.startswith("_")} - set(dir(onnxruntime))
    assert public == {
        "DeviceError", "DeviceUnavailable", "InferenceTimeout", "InvalidOption", "NpuMemoryFull", "RknnError",
        "SessionClosed", "SubmitTimeout", "install", "make_provider_options", "uninstall",
    }  # fmt: skip


@check
def npu_memory(_: Any) -> None:
    a = np.ones((1, 2), np.float32)
    for kind in (onnxruntime.OrtValue, ort_rknn.OrtValue):  # no session is open on an NPU here
        with pytest.raises(Exception, match="Unsupported device"):
            kind.ortvalue_from_numpy(a, "npu")
    emulator = Emulator()
    with ort_rknn.InferenceSession(real_path("tokens_fp16_rk3588"), device=npu(emulator)):
        value = ort_rknn.OrtValue.ortvalue_from_numpy(a, "npu")
        assert value.device_name() == "npu"
        assert np.array_equal(value.numpy(), a)


@check
def foreign_bindings(_: Any) -> None:
    session = ours()
    with pytest.raises(RuntimeError, match=r"session\.io_binding\(\)"):
        session.run_with_iobinding(onnxruntime.IOBinding(session))


@check
def more_methods(_: Any) -> None:
    mine, theirs = (
        {name for name in dir(kind) if not name.startswith("_")}
        for kind in (ort_rknn.InferenceSession, onnxruntime.InferenceSession)
    )
    assert theirs <= mine
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in sorted(mine - theirs) if f"`{name}`" not in page] == []


@check
def own_classes(_: Any) -> None:
    for name in ("InferenceSession", "SessionOptions", "IOBinding", "OrtValue"):
        mine, theirs = getattr(ort_rknn, name), getattr(onnxruntime, name)
        assert mine is not theirs
        assert issubclass(mine, theirs)
    assert isinstance(ours(), onnxruntime.InferenceSession)
    assert isinstance(ours().get_session_options(), ort_rknn.SessionOptions)
    assert ort_rknn.RunOptions is onnxruntime.RunOptions


@check
def late_install(_: Any) -> None:
    from onnxruntime import InferenceSession as taken_before

    ort_rknn.install()
    try:
        assert onnxruntime.InferenceSession is ort_rknn.InferenceSession
        assert not issubclass(taken_before, ort_rknn.InferenceSession)
    finally:
        ort_rknn.uninstall()
    assert onnxruntime.InferenceSession is taken_before


@check
def log(caplog_free: pytest.MonkeyPatch) -> None:
    from ort_rknn.opening import resolution

    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    caplog_free.setattr(resolution, "_said", set())
    logger = logging.getLogger("ort_rknn")
    logger.addHandler(handler)
    try:
        for _ in range(2):
            ort_rknn.InferenceSession(model("two"))
    finally:
        logger.removeHandler(handler)
    assert len(said) == 1
    assert said[0].getMessage().startswith("the model runs on the CPU: ")
