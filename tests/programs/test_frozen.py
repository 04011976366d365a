"""A program frozen by PyInstaller converts a model with the toolkit's own Python and runs it, in front and behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
import numpy as np
from onnx import helper, numpy_helper
import ort_rknn as ort
from ort_rknn.devices.rknnrt import native_calls

weights = np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32) / 6
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Sigmoid", ["a"], ["y"])],
    "g",
    [helper.make_tensor_value_info("x", 1, [1, 4, 8, 8])],
    [helper.make_tensor_value_info("y", 1, [1, 4, 8, 8])],
    [numpy_helper.from_array(weights, "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
feed = {"x": np.ones((1, 4, 8, 8), np.float32)}
expected = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feed)[0]
print("frozen", sys.frozen, any(place.exists() for place in native_calls._places()))
for how in ("load", "background"):
    options = {"device": "simulator", "target": "rk3588", "min_gain": 0, "compile": how, "cache_dir": sys.argv[1] + how}
    session = ort.InferenceSession(model, providers=[("RKNNExecutionProvider", options)])
    session.run(None, feed)
    session.wait_compiled(120)
    right = np.allclose(session.run(None, feed)[0], expected, atol=5e-3)
    print(how, session.get_providers()[0], session.plan.npu_share, right, flush=True)
    session.close()
"""


@pytest.mark.slow
@pytest.mark.toolkit
@pytest.mark.timeout(1500)
def test_a_frozen_program_converts_and_runs(tmp_path: Path) -> None:
    """Installed as users have it: the hooks are found by the wheel's entry point, not by an option."""
    pytest.importorskip("PyInstaller")
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    ours = Path(pytest.__file__).parents[1]
    (site / "shared.pth").write_text(f"{ours}\n")  # its own .pth files, and so this checkout, do not count there
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", site, wheel], check=True)
    (tmp_path / "app.py").write_text(PROGRAM)
    places = [f"--{name}path={tmp_path / name}" for name in ("dist", "work", "spec")]
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "PyInstaller", "--onedir", "--log-level=WARN", *places, "app.py"], cwd=tmp_path, check=True
    )
    app = tmp_path / "dist" / "app" / "app"
    done = subprocess.run([app, tmp_path / "cache-"], capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.splitlines() == [
        "frozen True True",
        "load RKNNExecutionProvider 1.0 True",
        "background RKNNExecutionProvider 1.0 True",
    ], done.stderr
