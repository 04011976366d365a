"""``ort-rknn demo``: the README's program, and models that come with the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from ort_rknn.examples import DIGITS, EDGES, EDGES_COMPILED
from ort_rknn.examples.demo import PROGRAM
from ort_rknn_converters.compiled.bundle import Bundle

ROOT = Path(__file__).resolve().parents[3]


def test_it_is_the_readme_s_program() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block == PROGRAM


def test_the_example_is_made_by_its_formula() -> None:
    code = (
        "import sys; sys.path.insert(0, 'examples/edges'); import make; "
        "sys.stdout.buffer.write(make.build().SerializeToString())"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    ours, theirs = (onnx.load_from_string(data) for data in (made, Path(EDGES).read_bytes()))
    for one, other in zip(ours.graph.initializer, theirs.graph.initializer, strict=True):
        np.testing.assert_allclose(onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(other), atol=1e-7)
    assert Path(DIGITS).samefile(ROOT / "examples" / "digits" / "digits.onnx")


def test_there_is_code_for_every_soc_with_a_full_npu() -> None:
    assert set(Bundle.load(EDGES_COMPILED).targets) == {"rk3588", "rk3576", "rk3566", "rk3568", "rk3562", "rv1126b"}


@pytest.mark.parametrize(
    ("device", "shown"), [("simulator", "all 5 nodes on the NPU"), ("cpu", "CPUExecutionProvider")]
)
def test_the_compiled_one_needs_no_toolkit(device: str, shown: str) -> None:
    code = "from ort_rknn.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--compiled", "--device", device],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert "Right: off from onnxruntime by" in done.stdout
    assert ("No time is shown" in done.stdout) == (device == "simulator")
