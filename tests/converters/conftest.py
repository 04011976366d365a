"""Conversions with a stand-in for the toolkit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.toolkits.scripted import VERSION, ScriptedToolkit


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Converts with a fake toolkit, the cost rule off: ``made(model, ScriptedToolkit(...), target="rk3576")``."""
    from ort_rknn_converters.pipeline.convert import convert

    monkeypatch.setattr(sys.modules["ort_rknn_converters.pipeline.convert"], "toolkit_version", lambda: VERSION)

    def run(proto: Any, fake: ScriptedToolkit | None = None, **fields: Any) -> Any:
        return convert(
            proto, **{"min_gain": 0, "compile": fake or ScriptedToolkit(), "known_failures": tmp_path} | fields
        )

    return run
