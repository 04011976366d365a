"""Plain onnxruntime with the plugin registered, on the emulated runtime; the tests run in one process with all
others."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.emulator import Emulator
from tests.helpers.plugin import emulated_sample, registered


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator().watched() as emulator:
        yield emulator
        gc.collect()


@pytest.fixture
def plugin(emulator: Emulator) -> Iterator[Emulator]:
    """The emulated runtime, with the plugin registered for it."""
    with registered(emulator.path):
        yield emulator
        gc.collect()


@pytest.fixture(scope="session")
def sample_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model of two segments and four CPU nodes, its code inside."""
    path = tmp_path_factory.mktemp("plugin") / "sample.onnx"
    emulated_sample().save(path)
    return path
