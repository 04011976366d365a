"""Fixtures of the session tests."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ort_rknn.devices.rknnrt.library import RuntimeLibrary
from tests.helpers.emulated_npu import build_native
from tests.helpers.emulator import Emulator
from tests.helpers.toolkits.fake import fake_toolkit


@pytest.fixture
def npu_session(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a model of ``tests.helpers.ort_models`` with an NPU part: ``npu_session("two", schedule=0)``."""
    from ort_rknn import InferenceSession
    from tests.helpers.ort_models import model

    opened: list[Any] = []

    def open_session(
        source: Any = "two", sess_options: Any = None, *, device: Any = "simulator", npu: bool = True, **options: Any
    ) -> Any:
        content = model(source) if isinstance(source, str) and "." not in source else source
        providers = [("RKNNExecutionProvider", {"min_gain": 0, **options})]
        session = InferenceSession(content, sess_options, providers, device=device)
        assert (session.get_providers()[0] == "RKNNExecutionProvider") == npu, session.plan
        opened.append(session)
        return session

    with fake_toolkit(tmp_path / "cache"):
        yield open_session
    for session in opened:
        session.close()


@pytest.fixture(params=["native", "python", "no descriptors"])
def emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated runtime; the last one cannot import memory, as runtimes before 1.4."""
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", "off" if request.param == "python" else str(build_native()))
    if request.param == "no descriptors":
        has = RuntimeLibrary.has
        monkeypatch.setattr(RuntimeLibrary, "has", lambda self, name: "from_fd" not in name and has(self, name))
    with Emulator().watched() as emulator:
        yield emulator
        gc.collect()
