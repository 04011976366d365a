"""Worker processes: every case ends in exactly one result, whatever it does to its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from ort_rknn_conformance.case import Case, Settings
from ort_rknn_conformance.cli import conformance
from ort_rknn_conformance.flows import Flow, find_flow
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.run.runner import run_cases
from ort_rknn_conformance.sources import onnx_node
from tests.helpers.conformance_cases import act

FLOW = find_flow("cpu")


def _run(*names: str, flow: Flow = FLOW, jobs: int = 2, time_limit: float = 60) -> dict[str, CaseResult]:
    cases = (Case(name, b"", ({},)) for name in names)
    results = list(run_cases(cases, flow, Settings(), jobs=jobs, time_limit=time_limit, run=act))
    assert len(results) == len(names)
    return {result.case: result for result in results}


def test_a_crash_is_a_result_and_not_the_end() -> None:
    results = _run("right/1", "abort/2", "segfault/3", "exit/4", "wrong/5", "right/6")
    assert {name: result.verdict for name, result in results.items()} == {
        "right/1": "right",
        "abort/2": "crashed",
        "segfault/3": "crashed",
        "exit/4": "crashed",
        "wrong/5": "wrong",
        "right/6": "right",
    }
    assert results["abort/2"].message == "SIGABRT: terminate called: planted"
    assert results["segfault/3"].message.startswith("SIGSEGV")
    assert results["exit/4"].message == "exit code 3"


def test_a_worker_serves_many_cases() -> None:
    results = _run(*(f"right/{number}" for number in range(20)), jobs=1)
    assert len({result.message for result in results.values()}) == 1  # the message holds the process id
    assert str(os.getpid()) not in results["right/0"].message


def test_a_hang_ends_at_the_time_limit() -> None:
    """It is not a worker's first case, which has more time; the one after it is a new worker's first."""
    results = _run("right/1", "hang/2", "right/3", jobs=1, time_limit=1.0)
    assert results["hang/2"].verdict == "timeout"
    assert results["hang/2"].message == "no answer within 1 s"
    assert {results["right/1"].verdict, results["right/3"].verdict} == {"right"}


def test_skips_and_strict_xfails() -> None:
    flow = Flow("cpu", "cpu", "", skips={"right/s*": "why not"}, xfails={"*/x*": "known"})
    results = _run("right/skip", "right/x", "wrong/x", "abort/x", flow=flow)
    assert results["right/skip"].verdict == "skipped"
    assert results["right/skip"].message == "why not"
    assert results["right/x"].verdict == "xpassed"
    assert results["right/x"].bad
    assert results["wrong/x"].verdict == "xfailed"
    assert results["abort/x"].verdict == "xfailed"
    assert not results["abort/x"].bad


def test_no_cases_no_workers() -> None:
    assert _run() == {}


def test_as_many_workers_as_jobs() -> None:
    results = _run(*(f"right/{number}" for number in range(8)), jobs=2)
    assert 1 <= len({result.message for result in results.values()}) <= 2


@pytest.mark.toolkit
def test_the_simulator_says_the_same_each_time(tmp_path: Path) -> None:
    cases = list(onnx_node.cases(["node/test_basic_conv_with_padding", "node/test_softmax_axis_1", "node/test_tanh"]))
    runs = []
    for number, order in enumerate((cases, cases[::-1])):
        settings = Settings(min_gain=0.0, cache_dir=str(tmp_path / str(number)), stable=True)
        results = run_cases(order, find_flow("simulator"), settings, jobs=number + 1)
        runs.append({result.case: {**result.to_dict(), "seconds": 0} for result in results})
    assert runs[0] == runs[1]
    assert {row["verdict"] for row in runs[0].values()} == {"right"}


@pytest.mark.toolkit
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    arguments = ["--flow", "cpu", "--filter", "node/test_re*", "--jobs", "2", "--json", str(report)]
    program = "import ort_rknn_conformance.cli as cli; cli.SAVE_EVERY = 0.0; cli.conformance()"
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            _until(lambda: len(_results(report)) >= 3 or process.poll() is not None)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        finally:
            process.kill()
    assert children, "it was ended before it was killed"
    _until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    content = json.loads(report.read_text())
    assert not content["finished"]
    kept = content["results"]
    for row in kept:
        row["message"] = "kept"
    report.write_text(json.dumps(content))
    names = [word for row in kept for word in ("--filter", row["case"])]
    again = ["--flow", "cpu", "--filter", "node/test_relu", *names, "--json", str(report), "--resume"]
    result = CliRunner().invoke(conformance, again, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    after = json.loads(report.read_text())
    assert after["finished"]
    assert {row["case"] for row in after["results"]} >= {row["case"] for row in kept} | {"node/test_relu"}
    assert sum(row["message"] == "kept" for row in after["results"]) == len(kept)


@pytest.mark.toolkit
def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    arguments = ["--flow", "cpu", "--filter", "node/test_re*", "--jobs", "2", "--json", str(report)]
    program = "import ort_rknn_conformance.cli as cli; cli.SAVE_EVERY = 0.0; cli.conformance()"
    start = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        _until(lambda: len(_results(report)) >= 3 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    content = json.loads(report.read_text())
    assert not content["finished"]
    assert f"interrupted; {len(content['results'])} results are in {report}: --resume goes on" in said


def _results(report: Path) -> list[object]:
    return json.loads(report.read_text())["results"] if report.exists() else []


def _until(true: Callable[[], bool], seconds: float = 120) -> None:
    """Other processes tell nobody what they have done: look again and again."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
