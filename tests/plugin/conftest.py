"""Plain onnxruntime with the plugin registered, on the emulated runtime; the tests run in one process with all
others."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.emulated_npu import build_native
from tests.helpers.emulator import Emulator, build_emulator
from tests.helpers.plugin import emulated_sample, registered


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated runtime that must come out of the test without misuse, leaked contexts or leaked memory."""
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()))  # for the package's sessions beside it
    with Emulator().watched() as emulator:
        yield emulator
        if emulator.count("contexts"):
            gc.collect()


@pytest.fixture(scope="module")
def _registered() -> Iterator[None]:
    with registered(build_emulator()):
        yield
        gc.collect()  # sessions of tests that failed


@pytest.fixture
def plugin(emulator: Emulator, _registered: None) -> Emulator:
    """The emulated runtime, with the plugin registered for it."""
    return emulator


@pytest.fixture(scope="session")
def sample_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model of two segments and four CPU nodes, its code inside."""
    path = tmp_path_factory.mktemp("plugin") / "sample.onnx"
    emulated_sample().save(path)
    return path
