"""``import ort_rknn`` costs numpy and the standard library, nothing else; nor do the values of the converters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("onnx", "onnx_ir", "onnxruntime", "rknn", "rknnlite", "click", "rich", "filelock", "platformdirs", "asyncio")


def _loaded(statement: str, *names: str) -> str:
    """Which of ``names`` a fresh interpreter has loaded after ``statement``."""
    program = f"import sys\n{statement}\nprint(*(name for name in {names!r} if name in sys.modules))"
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()


def test_import_ort_rknn_is_light() -> None:
    assert _loaded("import ort_rknn", *HEAVY, "ort_rknn_converters") == ""


def test_a_session_on_the_cpu_imports_none_of_the_npu_side() -> None:
    made = "import ort_rknn; ort_rknn.InferenceSession({!r}{})"
    model = "examples/digits/digits.onnx"
    npu = (
        "ort_rknn.devices.rknnrt.device",
        "ort_rknn.devices.rknnrt.abi",
        "ort_rknn.engine.engine",
        "ort_rknn_converters.compiled.model",
    )
    ours = (
        *npu,
        "ort_rknn.opening.create",
        "ort_rknn.options.table",
        "ort_rknn.opening.resolve",
        "ort_rknn_converters",
    )
    assert _loaded(made.format(model, ", providers=['CPUExecutionProvider']"), "ort_rknn.api.session", *ours) == (
        "ort_rknn.api.session"
    )
    assert _loaded(f"import os; os.environ['ORT_RKNN_DEVICE'] = 'cpu'; {made.format(model, '')}", *npu) == ""


@pytest.mark.parametrize("module", ["errors", "targets", "partition.plan", "options", "compiled.model", "cache.store"])
def test_values_of_the_converters_need_no_onnx(module: str) -> None:
    names = ("onnx", "onnx_ir", "onnxruntime", "click", "rich")
    assert _loaded(f"import ort_rknn_converters.{module}", *names) == ""
