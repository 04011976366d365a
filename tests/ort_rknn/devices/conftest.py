"""An emulated runtime that must come out of every test without misuse, leaked contexts or leaked memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.emulator import Emulator
from tests.helpers.npu import build_native


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    emulator = Emulator()
    emulator.reset()
    before = emulator.count("contexts"), emulator.count("mems"), emulator.count("dma_bytes")
    yield emulator
    emulator.release_hangs()
    misuses = emulator.misuses()
    emulator.reset()
    assert not misuses
    assert (emulator.count("contexts"), emulator.count("mems"), emulator.count("dma_bytes")) == before


@pytest.fixture(params=["native", "python"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Inferences by the native library, and by Python's own calls."""
    native = request.param == "native"
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()) if native else "off")
    return str(request.param)
