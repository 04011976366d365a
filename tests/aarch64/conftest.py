"""What a guest under qemu has: the vendor's package and the emulated runtime at the place where it looks for it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.emulator import Emulator

RUNTIME = Path("/usr/lib/librknnrt.so")
HERE = Path(__file__).parent
Board = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    guest = os.environ.get("ORT_RKNN_TESTS_PREFIX") and importlib.util.find_spec("rknnlite")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.aarch64)
            if not guest:
                item.add_marker(pytest.mark.skip(reason="runs under qemu: make test-aarch64"))


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """The runtime, which must come out of every test without misuse and without leaks."""
    with Emulator(RUNTIME).watched() as emulator:
        yield emulator


@pytest.fixture
def board() -> Iterator[Board]:
    """Changes which SoC the guest believes to run on."""
    tree = Path(os.environ["ORT_RKNN_TESTS_PREFIX"]) / "proc/device-tree/compatible"
    before = tree.read_bytes()

    def become(*names: str) -> None:
        tree.write_bytes(b"".join(name.encode() + b"\0" for name in names))

    yield become
    tree.write_bytes(before)
