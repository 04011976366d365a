"""The parity cases once more, their models on a server: the same result, or the same exception class and text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import ort_rknn
from tests.helpers.parity import CASES, Bench, outcome
from tests.helpers.serving import publishing, served
from tests.parity import asynchronous, bindings, feeds, graphs, module, options, sessions, sources  # noqa: F401

pytest.importorskip("grpc", reason="gRPC is not among the oldest packages")

REMOTE = [("RKNNExecutionProvider", {}), "CPUExecutionProvider"]


_PINNED = "what pinned inputs make of the outputs, only the server could infer"
_SEQUENCE = "the protocol carries tensors only; the error says so"
DIFFERENT = {
    "async_without_user_data": "user_data has a default here: programs for EZ RKNN Async leave it out",
    "value-none": "None does not travel: the server sees an input that is missing",
    "option-cancelled": "the message has no path: what was cancelled is the opening on this side",
    "replaced_weight": "the server's weights are the server's; the error says so",
    "optimized_model_is_written": "the optimized form would be the server's; the error says so",
    "ask-two-pickle": "the message names this test's own class",
    "ask-mixed-pickle": "the message names this test's own class",
    "ask-two-model_path": "the path is the address",
    "ask-mixed-model_path": "the path is the address",
    "graph-pinned-other_name": _PINNED,
    "graph-pinned-two_names": _PINNED,
    "option-pinned_to_nothing": _PINNED,
    "typed-sequence": _SEQUENCE,
    "typed-sequence_empty": _SEQUENCE,
    "typed-zipmap": _SEQUENCE,
    "graph-run-sequence_output": _SEQUENCE,
    "graph-twice-sequence_output": _SEQUENCE,
    "graph-values-sequence_output": _SEQUENCE,
}
"""Case -> why it differs; nothing else may."""


@pytest.fixture(scope="module", params=["grpc", pytest.param("http", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("models")
    with served(folder) as running:
        port = running.grpc_ports[0] if request.param == "grpc" else running.http_port
        yield publishing(onnxruntime, folder), publishing(ort_rknn, folder, f"{request.param}://127.0.0.1:{port}")


@pytest.mark.parametrize("name", CASES)
def test_same(name: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("ort", "ours"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "ort")
    wanted = outcome(CASES[name], Bench(server[0], ["CPUExecutionProvider"], "."))
    monkeypatch.chdir(tmp_path / "ours")
    ours = outcome(CASES[name], Bench(server[1], REMOTE, "."))
    if name in DIFFERENT:
        assert ours != wanted, "this no longer differs: take it off the list"
        if DIFFERENT[name].endswith("the error says so"):
            assert ours.error is not None
            assert re.search("another machine|can be sent", ours.error[1])
        pytest.xfail(DIFFERENT[name])
    assert ours == wanted
