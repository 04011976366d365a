"""An emulated runtime that must come out of every test without misuse, leaked contexts or leaked memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.emulated_npu import build_native
from tests.helpers.emulator import Emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator().watched() as emulator:
        yield emulator


@pytest.fixture(params=["native", "python"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Inferences by the native library, and by Python's own calls."""
    native = request.param == "native"
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()) if native else "off")
    return str(request.param)
