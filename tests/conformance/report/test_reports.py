"""Reports: JSON that survives the way there and back, and tables that fit a terminal and say what is needed."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ort_rknn_conformance.case import CaseError, Settings
from ort_rknn_conformance.flows import find_flow
from ort_rknn_conformance.report import json_report, terminal
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.run.compare import Tolerance, compare_output

FLOW = find_flow("simulator")


def _result() -> CaseResult:
    x = np.array([[1, 2, np.nan, 4]], np.float32)
    y = x + np.float32(0.5)
    outputs = tuple(compare_output(name, [x], [value], Tolerance(5e-3, "t")) for name, value in (("a", x), ("b", y)))
    return CaseResult("m.onnx", "wrong", "b: off", outputs, 10, 8, {"recurrent [x]": 2}, 1, 0.5)


def _console(width: int) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width, highlight=False), stream


def test_json_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "r.json"
    results = [_result(), CaseResult("a", "crashed", "SIGSEGV")]
    head = json_report.header(FLOW, Settings())
    json_report.write(file, head, results)
    json.loads(file.read_text(), parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity
    before, read = json_report.read(file)
    assert read == sorted(results, key=lambda result: result.case)
    assert before["counts"] == {"crashed": 1, "wrong": 1}
    assert before["versions"]["onnxruntime"]
    assert json_report.same_run(head, before) == []
    assert json_report.same_run(json_report.header(FLOW, Settings("rk3566")), before) == ["target"]
    assert [path.name for path in file.parent.iterdir()] == ["r.json"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 99, "results": []}', '{"format": 1, "results": [{}]}'])
def test_what_is_no_report(tmp_path: Path, content: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(content)
    with pytest.raises(CaseError, match=r"r\.json: "):
        json_report.read(file)


@pytest.mark.parametrize("width", [80, 140])
def test_case_in_the_terminal(width: int) -> None:
    console, stream = _console(width)
    terminal.print_case(console, _result(), FLOW, target="rk3588", precision="fp16")
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for said in ("8 of 10 nodes", "2 x recurrent [x]", "simulated", "SQNR", "cosine", "top-1", "FAIL", "b: off"):
        assert said in text


def test_run_in_the_terminal() -> None:
    console, stream = _console(80)
    results = [_result(), CaseResult("n", "right", nodes=1, npu_nodes=1), CaseResult("c", "crashed", "SIGSEGV: [x]")]
    results += [CaseResult(f"w{number}", "wrong") for number in range(terminal.LISTED)]
    terminal.print_run(console, results, FLOW, seconds=12.3)
    text = stream.getvalue()
    assert "SIGSEGV: [x]" in text
    assert "... and 2 more" in text
    assert "1 with NPU nodes" in " ".join(text.split())


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        json_report.write(pipe, {}, [])
        assert json.loads(os.read(reader, 1 << 16))["finished"]
    finally:
        os.close(reader)
    assert pipe.is_fifo()
