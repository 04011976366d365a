"""The vendor's aarch64 toolkit in the box: a missing NPU is said at once; where it is answered, it compiles."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.board.box import KEPT, ROOT, run

pytestmark = pytest.mark.slow

ANSWERED = {"ORT_RKNN_TOOLKIT_WITHOUT_NPU": "1"}
DIGITS = "/home/rock/v/lib/python3.11/site-packages/ort_rknn/examples/digits.onnx"
SESSION = f"""
import time
import numpy as np
import ort_rknn as ort
begun = time.monotonic()
session = ort.InferenceSession({DIGITS!r}, providers=[("RKNNExecutionProvider", {{"min_gain": 0}})])
(answer,) = session.run(None, {{"image": np.zeros((1, 1, 8, 8), np.float32)}})
print(session.get_providers(), answer.shape, f"opened in {{time.monotonic() - begun:.1f}} s")
print(session.plan)
"""


@pytest.fixture(scope="module")
def toolkit(home: Path) -> Path:
    """The extra ``convert`` and the toolkit from a folder of wheels, on a machine without a device node."""
    if os.environ.get(KEPT) and (home / ".cache" / "ort_rknn" / "toolkit" / "toolkit.json").exists():
        return home
    print("\npip install 'ort-rknn[convert]', then the toolkit (minutes under emulation) ...", flush=True)
    begun = time.monotonic()
    done = run(["sh", "-c", "cd && v/bin/pip install --quiet --no-compile 'ort-rknn[convert]' && du -sm v"])
    assert done.returncode == 0, done.stdout
    took, size = time.monotonic() - begun, done.stdout.split()[-2]
    print(f"\npip install 'ort-rknn[convert]': {took:.0f} s more under emulation, {size} MB with pip")
    begun = time.monotonic()
    done = run(["ort-rknn", "toolkit", "install", "--from", "/tmp/toolkit"], layout="bare", timeout=800)
    print(f"toolkit install --from: {time.monotonic() - begun:.0f} s under emulation\n{done.stdout}")
    assert done.returncode == 0, done.stdout
    said = " ".join(done.stdout.split())
    assert said.index("It will not compile on this machine") < said.index("making the environment")
    assert "is installed, and was not proven" in said
    assert "Not installed" not in said
    return home


def test_what_is_in_the_way_is_known_before_anything_is_compiled(toolkit: Path) -> None:
    done = run(["ort-rknn", "toolkit", "status"], layout="bare")
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert "there is neither /dev/rknpu nor /dev/dri/card*" in said
    done = run(["ort-rknn", "doctor", "--no-test"], layout="bare")
    said = " ".join(done.stdout.replace("│", " ").split())
    assert "no model compiles here: its aarch64 compiler opens the NPU even to compile" in said, said


def test_a_conversion_ends_at_once_and_blames_no_node(toolkit: Path) -> None:
    begun = time.monotonic()
    done = run(["ort-rknn", "convert", DIGITS, "-o", "/tmp/digits.rknn.onnx", "--min-gain", "0"], layout="bare")
    print(f"\nrefused in {time.monotonic() - begun:.0f} s under emulation; what it replaces were minutes of crashes")
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("rknn-toolkit2 cannot compile on this machine") == 1
    assert "npu_0" not in done.stdout, "nothing was tried"
    assert not list(toolkit.rglob("verdicts.json"))


def test_a_session_says_it_once_and_runs(toolkit: Path) -> None:
    done = run(["python", "-c", SESSION], layout="bare", env={"ORT_RKNN_DEVICE": "simulator"})
    assert "['CPUExecutionProvider'] (1, 10)" in done.stdout, done.stdout
    assert done.stdout.count("cannot compile on this machine") >= 1
    assert not list(toolkit.rglob("verdicts.json"))


def test_answered_it_compiles_what_a_pc_compiles(toolkit: Path, tmp_path: Path) -> None:
    done = run(["ort-rknn", "toolkit", "install"], layout="bare", env=ANSWERED)
    assert "works" in done.stdout, done.stdout
    out = "/home/rock/digits.rknn.onnx"
    options = ["--min-gain", "0", "--target", "rk3588", "--external"]
    begun = time.monotonic()
    done = run(["ort-rknn", "convert", DIGITS, "-o", out, *options], layout="bare", env=ANSWERED)
    assert done.returncode == 0, done.stdout
    print(f"\ndigits converted in {time.monotonic() - begun:.0f} s under emulation\n{done.stdout}")
    assert "all 14 nodes on the NPU" in done.stdout
    code = "from ort_rknn.cli import main; main()"
    here = tmp_path / "digits.rknn.onnx"
    model = str(ROOT / "examples" / "digits" / "digits.onnx")
    subprocess.run([sys.executable, "-c", code, "convert", model, "-o", str(here), *options], check=True, timeout=300)
    (theirs,) = toolkit.glob("digits.rknn_*.rknn")
    (ours,) = tmp_path.glob("digits.rknn_*.rknn")
    one, other = (np.frombuffer(path.read_bytes(), np.uint8) for path in (theirs, ours))
    assert len(one) == len(other)
    apart = np.flatnonzero(one != other)
    middle = apart[(apart > 0.06 * len(one)) & (apart < 0.42 * len(one))]
    print(f"{len(one)} bytes, of which {len(apart)} differ: ids, padding and JSON around the commands and weights")
    assert len(apart) < 0.05 * len(one)
    assert not len(middle), middle[:20]


def test_a_session_on_the_npu_converts_and_the_next_one_does_not(toolkit: Path) -> None:
    first = run(["python", "-c", SESSION], env=ANSWERED)
    assert "['RKNNExecutionProvider', 'CPUExecutionProvider'] (1, 10)" in first.stdout, first.stdout
    again = run(["python", "-c", SESSION])  # from the cache: no compiler is needed
    assert "['RKNNExecutionProvider', 'CPUExecutionProvider'] (1, 10)" in again.stdout, again.stdout
    print("", *[line for run in (first, again) for line in run.stdout.splitlines() if "opened in" in line], sep="\n")


def test_the_board_test_says_where_it_is(toolkit: Path) -> None:
    done = run(["sh", "-c", "cd && ort-rknn board-test --runs 1 --json /tmp/board.json"], timeout=800)
    lines = [line for line in done.stdout.splitlines() if ": " in line]
    assert len(lines) > 10, done.stdout
    assert "right" in done.stdout
