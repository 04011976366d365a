"""Profiles of sessions with an NPU part: onnxruntime's own form, a track for each core and CPU segment. OV-06."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ort_rknn
from ort_rknn.devices.fake import FakeDevice
from ort_rknn.ort_types.profiling import Profile
from tests.helpers.ort_models import model

Open = Callable[..., Any]
A = np.float32([[1, 2], [3, -4], [5, 6]])
FEED = {"A": A, "B": A}
IMAGE = {"X": np.ones((1, 2, 4, 4), np.float32)}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def profiled(prefix: str = "p") -> Any:
    options = ort_rknn.SessionOptions()
    options.enable_profiling = True
    if prefix:
        options.profile_file_prefix = prefix
    return options


def events(name: str | Path) -> list[dict[str, Any]]:
    """The file's events; its lines are checked on the way."""
    lines = Path(name).read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    found = [json.loads(line.rstrip(",")) for line in lines[1:-1]]
    assert found == json.loads("\n".join(lines))
    assert all(list(event) == ["cat", "pid", "tid", "dur", "ts", "ph", "name", "args"] for event in found)
    return found


def tracks(found: list[dict[str, Any]]) -> dict[int, str]:
    return {event["tid"]: event["args"]["name"] for event in found if event["name"] == "thread_name"}


def test_a_track_for_each_core_and_each_cpu_segment(npu_session: Open) -> None:
    session = npu_session("mixed", profiled(), simulator_cores=2, simulator_latency_ms=5)
    for job in [session.submit(None, IMAGE) for _ in range(5)]:
        job.result()
    session.run(None, IMAGE)
    found = events(session.end_profiling())
    names = tracks(found)
    assert {"NPU core 0", "NPU core 1", "session", "inferences", "CPU cpu_0"} <= set(names.values())
    npu = [event for event in found if event["name"] == "npu_0_kernel_time"]
    assert len(npu) == 6
    for event in npu:
        assert (event["cat"], event["ph"], event["args"]["provider"]) == ("Node", "X", "RKNNExecutionProvider")
        assert names[event["tid"]] == f"NPU core {event['args']['core']}"
        assert event["dur"] >= 4900
        assert event["args"]["input_type_shape"] == [{"float": [1, 2, 4, 4]}]
    cpu = [event for event in found if event["name"] == "cpu_0"]
    assert [(event["cat"], event["args"]["provider"]) for event in cpu] == [("Session", "CPUExecutionProvider")] * 6
    runs = [event for event in found if event["name"] == "model_run"]
    assert sorted(event["args"]["job"] for event in runs) == sorted(event["args"]["job"] for event in npu)
    assert all(event["ts"] >= 0 for event in found)


def test_events_of_one_track_do_not_overlap(npu_session: Open) -> None:
    session = npu_session("two", profiled(), simulator_latency_ms=2, threads_per_core=2)
    assert len(list(session.map(None, (FEED for _ in range(30))))) == 30
    ends: dict[int, float] = {}
    found = [event for event in events(session.end_profiling()) if event["ph"] == "X"]
    for event in sorted(found, key=lambda event: event["ts"]):
        assert event["ts"] >= ends.get(event["tid"], 0) - 1  # microseconds are rounded down
        ends[event["tid"]] = event["ts"] + event["dur"]


@pytest.mark.parametrize("prefix", ["", "abc", "deep/abc"])
def test_name_and_second_time_as_onnxruntime(
    npu_session: Open, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_a_folder(name: str, made: Callable[[], Any]) -> tuple[str, list[dict[str, Any]]]:
        (tmp_path / name / "deep").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)  # names tell seconds apart, no more
        session = made()
        assert session.get_session_options().enable_profiling
        assert abs(session.get_profiling_start_time_ns() - time.time_ns()) < 60e9
        name = session.end_profiling()
        assert session.end_profiling() == ""
        return re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d{3})?\.json$", "", name), events_of_onnxruntime(name)

    def reference() -> Any:
        return onnxruntime.InferenceSession(model("two"), profiled(prefix), providers=["CPUExecutionProvider"])

    our_name, ours = in_a_folder("ours", lambda: npu_session("two", profiled(prefix)))
    their_name, theirs = in_a_folder("theirs", reference)
    assert our_name == their_name
    said = [{event["name"] for event in found if event["cat"] == "Session"} for found in (ours, theirs)]
    assert said[0] == said[1] == {"model_loading_array", "session_initialization"}
    assert set(ours[0]) == set(theirs[0])


COUNTERS = ("mem_", "thread_")
"""What onnxruntime has only where it looks at memory and at its threads; the names depend on its release."""


@pytest.mark.parametrize("by", ["path", "bytes"])
def test_events_as_onnxruntimes(npu_session: Open, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, kinds and arguments, of runs and bindings; a node on the CPU is told by onnxruntime itself."""
    npu_session("mixed")  # in the cache from now on
    (tmp_path / "model.onnx").write_bytes(model("mixed"))
    source = str(tmp_path / "model.onnx") if by == "path" else model("mixed")
    rknn = [("RKNNExecutionProvider", {"device": "simulator", "min_gain": 0})]

    def found(name: str, package: Any, providers: Any) -> list[dict[str, Any]]:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        session = package.InferenceSession(source, profiled(), providers=providers)
        for _ in range(2):
            session.run(None, IMAGE)
        binding = session.io_binding()
        binding.bind_cpu_input("X", IMAGE["X"])
        for output in ("Y", "P"):
            binding.bind_output(output)
        session.run_with_iobinding(binding)
        written = events_of_onnxruntime(session.end_profiling())
        assert len(list(Path.cwd().iterdir())) == 1
        return [event for event in written if event["ph"] == "X"]

    theirs = found("theirs", onnxruntime, ["CPUExecutionProvider"])
    ours = found("ours", ort_rknn, rknn)

    def session_names(events: list[dict[str, Any]]) -> list[str]:
        return sorted(event["name"] for event in events if event["cat"] == "Session" and event["name"] != "cpu_0")

    assert session_names(ours) == session_names(theirs)
    name = {"nonzero_2_kernel_time"}
    assert {event["args"]["op_name"] for event in theirs if event["name"] in name} == {"NonZero"}
    pairs = [[event for event in events if {event["name"]} == name] for events in (ours, theirs)]
    assert [len(events) for events in pairs] == [3, 3]
    for mine, other in zip(*pairs, strict=True):
        assert set(mine) == set(other)
        assert set(mine["args"]) == set(other["args"])
        for key in ("op_name", "provider", "input_type_shape", "output_type_shape", "output_size"):
            assert mine["args"][key] == other["args"][key]
    asked = {key for key in pairs[1][0]["args"] if not key.startswith(COUNTERS)}
    npu = [event for event in ours if event["args"].get("provider") == "RKNNExecutionProvider"]
    assert len(npu) == 3
    for event in npu:
        assert event["cat"] == "Node"
        assert asked <= set(event["args"])
        assert all(isinstance(event["args"][key], type(pairs[1][0]["args"][key])) for key in asked)
    runs = {event["args"]["job"]: event for event in ours if event["name"] == "model_run"}
    for event in npu:
        run = runs[event["args"]["job"]]
        assert run["ts"] <= event["ts"] + 1
        assert event["ts"] + event["dur"] <= run["ts"] + run["dur"] + 2
    nodes = [event for event in ours if {event["name"]} == name]
    assert all(
        any(run["ts"] - 500 <= event["ts"] <= run["ts"] + run["dur"] + 500 for run in runs.values()) for event in nodes
    )


def events_of_onnxruntime(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(name).read_text(encoding="utf-8"))
    return found


def test_without_profiling_there_is_none(npu_session: Open) -> None:
    session = npu_session()
    session.run(None, FEED)
    assert (session.end_profiling(), session.get_profiling_start_time_ns()) == ("", 0)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("how", ["close", "drop"])
def test_it_is_written_when_the_session_ends(npu_session: Open, how: str) -> None:
    npu_session()  # converted once; the next is not held by the fixture
    providers = [("RKNNExecutionProvider", {"device": "simulator", "min_gain": 0})]
    session: Any = ort_rknn.InferenceSession(model("two"), profiled(), providers=providers)
    session.run(None, FEED)
    session.submit(None, FEED).result()
    if how == "close":
        session.close()
    else:
        session = None
    gc.collect()
    (file,) = Path.cwd().iterdir()
    assert sum(event["name"] == "model_run" for event in events(file)) == 2


def test_it_is_written_when_the_interpreter_ends(npu_session: Open, tmp_path: Path) -> None:
    program = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "converters")!r}]
from pathlib import Path
import numpy as np, ort_rknn
from tests.helpers.toolkits.fake import fake_toolkit
from tests.helpers.ort_models import model
options = ort_rknn.SessionOptions()
options.enable_profiling = True
with fake_toolkit(Path({str(tmp_path / "c")!r})):
    s = ort_rknn.InferenceSession(model("two"), options, providers=[("RKNNExecutionProvider", dict(
        device="simulator", min_gain=0))])
s.run(None, {{"A": np.ones((3, 2), np.float32), "B": np.ones((3, 2), np.float32)}})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (file,) = Path.cwd().iterdir()
    assert file.name.startswith("onnxruntime_profile__")
    assert any(event["name"] == "npu_0_kernel_time" for event in events(file))


def test_failures_are_told(npu_session: Open) -> None:
    device = FakeDevice(1)
    session = npu_session("two", profiled(), device=device)
    job = session.submit(None, FEED)
    waits = session.submit(None, FEED)
    device.gate(0).wait_started()
    assert waits.cancel()
    device.gate(0).fail(-1)
    assert job.exception(20) is not None
    runs = [event for event in events(session.end_profiling()) if event["name"] == "model_run"]
    assert sorted(event["args"]["error"][:12] for event in runs) == ["it was cance", "rknn_run fai"]


def test_a_file_that_cannot_be_written_is_no_error(npu_session: Open, caplog: pytest.LogCaptureFixture) -> None:
    session = npu_session("two", profiled("gone/p"))
    assert session.end_profiling().startswith("gone/p_")
    assert "the profile cannot be written" in caplog.text


def test_it_is_written_where_the_session_was_made(npu_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path.cwd()
    session = npu_session("two", profiled())
    monkeypatch.chdir("/")
    assert (here / session.end_profiling()).exists()


def test_there_is_an_end_to_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ort_rknn.ort_types.profiling.MOST_EVENTS", 3)
    profile = Profile("many")
    for number in range(10):
        profile.inference(number, 0.0, 1.0)
    assert sum(event["ph"] == "X" for event in events(profile.end())) == 3


@pytest.mark.parametrize("how", ["end", "close", "drop"])
def test_a_session_whose_shapes_move_shows_both_sides_in_one_file(npu_session: Open, how: str) -> None:
    options = profiled()
    providers = [("RKNNExecutionProvider", {"device": "simulator", "min_gain": 0, "compile": "load", "max_shapes": 2})]
    session: Any = ort_rknn.InferenceSession(model("dynamic"), options, providers=providers)
    assert session._rknn_native.rknn_kind == "dynamic"
    for rows in (3, 2, 3, 1):
        session.run(None, {"X": A[:rows]})
    if how == "end":
        assert Path(session.end_profiling()).exists()
        assert session.end_profiling() == ""
        session.run(None, {"X": A})
    elif how == "close":
        session.close()
    del session
    gc.collect()
    (file,) = Path.cwd().iterdir()
    found = events_of_onnxruntime(str(file))
    npu = [event for event in found if event["name"] == "npu_0_kernel_time"]
    assert len(npu) == 3, "of two engines"
    cpu = [event for event in found if event["args"].get("provider") == "CPUExecutionProvider"]
    assert cpu, "one row was a shape too many"
    loaded = next(event for event in found if event["name"] == "session_initialization")
    assert all(event["ts"] >= loaded["ts"] for event in (*npu, *cpu))
