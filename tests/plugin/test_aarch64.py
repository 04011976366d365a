"""The library as an aarch64 program under qemu, on a made-up board: the numbers of the same session on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.emulator import ABI, Emulator
from tests.helpers.plugin import emulated_sample, plugin_session, plugin_sources

ROOT = Path(__file__).resolve().parents[2]
WORLD = ROOT / "build" / "aarch64"
PACKAGES = WORLD / "plugin-packages"
LOCK = ROOT / ".ci" / "lock" / "plugin-aarch64.txt"
PLATFORMS = ("--platform=manylinux_2_27_aarch64", "--platform=manylinux_2_28_aarch64")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def python() -> Path:
    """The guest's Python, with an onnxruntime."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "aarch64" / "prepare.py")], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip((done.stdout + done.stderr).strip().splitlines()[-1])
    if not (PACKAGES / "onnxruntime").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PLATFORMS]
        command += ["--python-version=3.11", "--implementation=cp", "--only-binary=:all:", "--no-deps"]
        subprocess.run([*command, f"--target={PACKAGES}", "--require-hashes", "-r", str(LOCK)], check=True)
    return WORLD / "python"


def test_the_same_numbers_on_aarch64(python: Path, plugin: Emulator, tmp_path: Path) -> None:
    library = tmp_path / "libonnxruntime_ep_rknn.so"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"]
    links = ["-fvisibility=hidden", "-Wl,-z,nodelete", "-lm", f"-I{ABI}"]
    compiler = ["aarch64-linux-gnu-gcc", *flags, *map(str, plugin_sources()), *links, "-o", str(library)]
    subprocess.run(compiler, check=True, timeout=300)
    model, feed, answers = tmp_path / "model.onnx", tmp_path / "feed.npz", tmp_path / "answers.npz"
    emulated_sample(("rk3566", "rk3588")).save(model, embed=False)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    given = {"x": x, "flag": np.array([True])}
    np.savez(feed, **given)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_RKNN_")}
    environment["PYTHONPATH"] = str(PACKAGES)
    command = [str(python), str(Path(__file__).with_name("guest.py")), *map(str, (library, model, feed, answers))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (facts["version"], facts["type"], facts["soc"], facts["cores"]) == ("1.27.0", "NPU", "rk3588", "3")
    session = plugin_session(model, target="rk3588")
    got = np.load(answers)
    for output, expected in zip(session.get_outputs(), session.run(None, given), strict=True):
        assert (got[output.name].dtype, got[output.name].tobytes()) == (expected.dtype, expected.tobytes())
