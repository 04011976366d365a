"""The library registered and unregistered: devices, versions, and whether a compiled model fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.emulator import Emulator
from tests.helpers.plugin import plugin_session, registered

FEED = {"x": np.zeros((1, 3, 8, 8), np.float32), "flag": np.array([True])}


def test_without_the_runtime_there_is_no_device(tmp_path: Path) -> None:
    with registered(None) as found:
        assert found == []
    with registered(tmp_path / "no.so") as found:
        assert found == []


def test_register_twice_and_again(emulator: Emulator, sample_path: Path) -> None:
    for number in range(3):
        with registered(emulator.path, name=f"again {number % 2}") as found:
            assert [device.device.type.name for device in found] == ["NPU"]
            with (
                pytest.raises(Exception, match="already registered"),
                registered(emulator.path, name=f"again {number % 2}"),
            ):
                pass
            session = plugin_session(sample_path)
        session.run(None, FEED)  # it goes on where the library was unregistered too early
        del session
