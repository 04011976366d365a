"""The programs in docs/coming-from.md run as they stand there: on the simulator, and where there is only a CPU."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.toolkits.fake import fake_toolkit

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "coming-from.md"
PROGRAM = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("device", ["simulator", "cpu"])
def test_programs_run(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ORT_RKNN_DEVICE", device)
    monkeypatch.setenv("ORT_RKNN_MIN_GAIN", "0")
    names: dict[str, Any] = {}
    with fake_toolkit(tmp_path):
        for number, block in enumerate(PROGRAM):
            exec(compile(block, f"block {number} of {PAGE.name}", "exec"), names)
    assert ("RKNNExecutionProvider" in names["session"].get_providers()) == (device == "simulator")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ort_rknn")]


def test_every_system_has_a_part() -> None:
    parts = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert parts == [
        "onnxruntime",
        "EZ RKNN Async",
        "AMD VART-ML",
        "OpenVINO",
        "rknn-toolkit-lite2",
        "Threads and futures",
        "asyncio",
    ]
