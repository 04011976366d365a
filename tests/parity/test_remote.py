"""The parity cases once more, their models on a server: the same result, or the same exception class and text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import ort_rknn
from tests.helpers.parity import CASES, Bench, outcome
from tests.helpers.serving import publishing, served
from tests.parity import asynchronous, bindings, feeds, graphs, module, options, sessions, sources  # noqa: F401

REMOTE = [("RKNNExecutionProvider", {}), "CPUExecutionProvider"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("models")
    with served(folder, http=None) as running:
        address = f"grpc://127.0.0.1:{running.grpc_ports[0]}"
        yield publishing(onnxruntime, folder), publishing(ort_rknn, folder, address)


@pytest.mark.parametrize("name", CASES)
def test_same(name: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("ort", "ours"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "ort")
    wanted = outcome(CASES[name], Bench(server[0], ["CPUExecutionProvider"], "."))
    monkeypatch.chdir(tmp_path / "ours")
    assert outcome(CASES[name], Bench(server[1], REMOTE, ".")) == wanted
