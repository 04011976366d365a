"""Inferences at the same time, on which cores, with failing and hanging runtimes, after a fork."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.helpers.emulator import Emulator, Model, Tensor
from tests.helpers.plugin import one_segment, plugin_session

Error = onnxruntime.capi.onnxruntime_pybind11_state
MODEL = Model((Tensor("x", "float16", (1, 3, 6, 5), "nhwc"),), (Tensor("y", "float16", (1, 4, 6, 5), "nchw"),))
BYTES = one_segment(MODEL)
FEEDS = [np.random.default_rng(i).standard_normal((1, 3, 6, 5)).astype(np.float32) for i in range(8)]
RIGHT = [MODEL.answer([x])[0] for x in FEEDS]
LONG = {"run_timeout_ms": 200}


def right(session: Any, number: int = 0) -> bool:
    return bool(np.array_equal(session.run(None, {"x": FEEDS[number]})[0], RIGHT[number]))


def run_many(session: Any, threads: int, times: int) -> int:
    """How many results are wrong."""

    def one(number: int) -> int:
        return sum(not right(session, number) for _ in range(times))

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one, range(threads)))


@pytest.mark.parametrize("options", [{}, {"run_timeout_ms": 60_000}, {"schedule": "0,1,2"}, {"disable_dup_context": 1}])
def test_eight_threads(plugin: Emulator, options: dict[str, Any]) -> None:
    session = plugin_session(BYTES, **options)
    assert run_many(session, 8, 1000 if not options else 100) == 0
    assert 1 <= plugin.count("contexts") <= 6
    assert plugin.count("concurrent") == 0
    del session
    assert plugin.count("contexts") == 0


def test_the_weights_are_shared(plugin: Emulator) -> None:
    plugin.configure(latency_us=2000)
    session = plugin_session(BYTES)
    run_many(session, 6, 3)
    assert plugin.count("rknn_init") == 1
    assert plugin.count("contexts") == plugin.count("rknn_dup_context") + 1 > 1
    del session


@pytest.mark.parametrize(
    ("options", "contexts", "cores"),
    [
        ({"performance_hint": "latency"}, 1, 1),
        ({"performance_hint": "throughput"}, 6, 3),
        ({"threads_per_core": 1}, 3, 3),
        ({"schedule": "2"}, 1, 1),
        ({"schedule": "[0, 1]", "threads_per_core": 2}, 4, 2),
        ({"tp_mode": "all"}, 1, 3),
        ({"tp_mode": "0,1"}, 1, 2),
        ({"tp_mode": "1", "threads_per_core": 2}, 2, 1),
        ({"tp_mode": "auto", "target": "rk3576"}, 4, 3),
    ],
)
def test_cores(plugin: Emulator, options: dict[str, Any], contexts: int, cores: int) -> None:
    plugin.configure(latency_us=3000)
    session = plugin_session(BYTES, **options)
    assert run_many(session, 8, 4) == 0
    assert plugin.count("contexts") == contexts
    assert sum(plugin.count(f"core{i}_runs") > 0 for i in range(3)) == cores
    del session


def test_masks_no_runtime_takes_are_never_asked_for(plugin: Emulator) -> None:
    """5, 6 and 0xffff are refused by the vendor's library for the RK3588, and everything on chips with one core."""
    with pytest.raises(Error.InvalidArgument, match=r"core 2 does not exist: this NPU has 2 core\(s\)"):
        plugin_session(BYTES, target="rk3576", schedule="0,2")
    with pytest.raises(Error.InvalidArgument, match="core 2 does not exist"):
        plugin_session(BYTES, target="rk3576", tp_mode="0,1,2")
    from dataclasses import replace

    plugin.configure(cores=1)
    session = plugin_session(one_segment(replace(MODEL, target="rk3566")), target="rk3566", tp_mode="all")
    assert right(session)
    assert plugin.count("rknn_set_core_mask") == 0
    del session


def test_a_runtime_without_masks_chooses_the_cores(plugin: Emulator) -> None:
    plugin.configure(fault="rknn_set_core_mask@1x*=-13")
    session = plugin_session(BYTES, schedule="0,1,2")
    assert run_many(session, 3, 10) == 0
    assert plugin.count("rknn_set_core_mask") == 1
    del session


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("rknn_init@1=-6", r"rknn_init failed: RKNN_ERR_MODEL_INVALID \(-6\).*Segment segment was made by toolkit"),
        ("rknn_init@1=-3", "driver not loaded, or no permission"),
        ("rknn_init@1=-77", "error -77: the vendor does not document this code"),
        ("rknn_init@1x*=-1", r"RKNN_ERR_FAIL \(-1\)"),
        ("rknn_query@1=-5", "rknn_query failed"),
        ("rknn_query@2=-5", "rknn_query failed"),
        ("rknn_query@4=-5", "rknn_query failed"),
    ],
)
def test_what_fails_while_a_session_is_made(plugin: Emulator, fault: str, message: str) -> None:
    plugin.configure(fault=fault)
    with pytest.raises(Error.EPFail, match=message):
        plugin_session(BYTES)
    assert plugin.count("contexts") == 0


def test_a_runtime_that_knows_only_paths(plugin: Emulator) -> None:
    plugin.configure(fault="rknn_init@1=-1")
    session = plugin_session(BYTES)
    assert plugin.count("rknn_init") == 2
    assert right(session)
    del session


@pytest.mark.parametrize("call", ["rknn_inputs_set", "rknn_run", "rknn_outputs_get"])
@pytest.mark.parametrize("options", [{}, {"run_timeout_ms": 60_000}])
def test_a_failing_inference_is_an_error_and_the_next_one_runs(
    plugin: Emulator, call: str, options: dict[str, Any]
) -> None:
    session = plugin_session(BYTES, **options)
    assert right(session)
    plugin.configure(fault=f"{call}@1=-1;{call}@3=-99")
    for code in (-1, -99):
        with pytest.raises(Error.EngineError, match=rf"{call} failed: .*{code}.* Segment segment, core mask 0"):
            right(session)
        assert right(session)
    del session


def test_a_runtime_on_which_every_call_fails(plugin: Emulator) -> None:
    session = plugin_session(BYTES)
    plugin.configure(fault="rknn_run@1x*=-1;rknn_dup_context@1x*=-1;rknn_init@1x*=-3")
    for _ in range(3):
        with pytest.raises(Error.EngineError):
            right(session)
    with ThreadPoolExecutor(8) as pool:
        assert all(isinstance(error, Error.EngineError) for error in pool.map(_error, [session] * 32))
    del session


def _error(session: Any) -> Exception | None:
    try:
        right(session)
    except Exception as error:
        return error
    return None


def test_code_beside_is_loaded_again_where_weights_cannot_be_shared(plugin: Emulator, tmp_path: Path) -> None:
    from tests.helpers.plugin import emulated_sample

    path = tmp_path / "model.onnx"
    emulated_sample().save(path, embed=False)
    session = plugin_session(path)
    feed = {"x": np.zeros((1, 3, 8, 8), np.float32), "flag": np.array([True])}
    session.run(None, feed)
    plugin.configure(fault="rknn_run@1=-1;rknn_dup_context@1x*=-1")
    with pytest.raises(Error.EngineError):
        session.run(None, feed)
    assert len(session.run(None, feed)) == 4
    assert plugin.count("rknn_init") == 3
    del session


@pytest.mark.parametrize("call", ["rknn_inputs_set", "rknn_run", "rknn_outputs_get"])
def test_a_hanging_inference_ends_in_time_and_the_next_one_runs(plugin: Emulator, call: str) -> None:
    session = plugin_session(BYTES, **LONG)
    assert right(session)
    plugin.configure(fault=f"{call}@1=hang")
    begun = time.monotonic()
    with pytest.raises(Error.EngineError, match=r"segment segment took longer than 200 ms \(run_timeout_ms\)"):
        right(session)
    assert time.monotonic() - begun < 20
    for number in range(4):
        assert right(session, number)
    plugin.release_hangs()
    _wait_until(lambda: plugin.count("contexts") == 1)
    assert right(session)
    del session


def test_all_contexts_hang_while_the_session_goes(plugin: Emulator) -> None:
    plugin.configure(fault="rknn_run@1x4=hang")
    session = plugin_session(BYTES, **LONG)
    with ThreadPoolExecutor(4) as pool:
        assert all(isinstance(error, Error.EngineError) for error in pool.map(_error, [session] * 4))
    assert right(session)
    del session
    gc.collect()  # the errors hold it by their tracebacks
    assert plugin.count("contexts") >= 4
    _wait_until(lambda: plugin.count("hanging") == 4)
    plugin.release_hangs()
    _wait_until(lambda: plugin.count("contexts") == 0)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["inside", "beside"])
def test_an_opening_that_hangs_ends_in_half_a_minute(plugin: Emulator, form: str, tmp_path: Path) -> None:
    model: bytes | Path = BYTES
    if form == "beside":
        proto, model = onnx.load_from_string(BYTES), tmp_path / "model.onnx"
        for attribute in proto.graph.node[0].attribute:
            if attribute.name == "ep_cache_context":
                (tmp_path / "code.rknn").write_bytes(attribute.s)
                attribute.s = b"code.rknn"
            elif attribute.name == "embed_mode":
                attribute.i = 0
        onnx.save(proto, model)
    plugin.configure(fault="rknn_init@1=hang")
    begun = time.monotonic()
    with pytest.raises(Exception, match=r"rknn_init did not come back within 30 s: segment segment"):
        plugin_session(model)
    assert 29 < time.monotonic() - begun < 45
    session = plugin_session(model)
    plugin.release_hangs()
    _wait_until(lambda: plugin.count("contexts") == 1)
    assert right(session)
    del session


@pytest.mark.slow
def test_a_duplicate_that_hangs_leaves_the_others_at_work(plugin: Emulator) -> None:
    session = plugin_session(BYTES)
    plugin.configure(fault="rknn_dup_context@1=hang;rknn_run@1x*=delay:50")
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(right, [session] * 8, range(8)))
    plugin.release_hangs()
    assert right(session)
    del session
    _wait_until(lambda: plugin.count("contexts") == 0)


def test_a_slow_context_is_duplicated_when_it_is_done(plugin: Emulator) -> None:
    session = plugin_session(BYTES, run_timeout_ms=60_000)
    plugin.configure(fault="rknn_run@1=delay:100")
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(right, [session] * 2, range(2)))
    assert plugin.count("rknn_init") == 1
    del session


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_the_childs_sessions_are_its_own(plugin: Emulator) -> None:
    session = plugin_session(BYTES)
    assert right(session)
    child = os.fork()
    if not child:
        status = 1
        signal.alarm(60)
        try:
            said = str(_error(session))  # it is not deleted here: onnxruntime would wait for threads that are not there
            fresh = plugin_session(BYTES)
            right_here = right(fresh)
            status = 0 if "made before fork()" in said and right_here else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert right(session)
    del session
