"""Worker processes: every case ends in exactly one result, whatever it does to its process."""

from __future__ import annotations

import os

from ort_rknn_conformance.case import Case, Settings
from ort_rknn_conformance.flows import Flow, find_flow
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.runner import run_cases
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
