"""An owner's first quarter of an hour: installation, doctor, demo, containers, and machines that lack something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.board.box import run

TRACEBACK = "Traceback (most recent call last)"
COMPILED = """
import numpy as np
import ort_rknn as ort
from ort_rknn.examples import EDGES_COMPILED
session = ort.InferenceSession(EDGES_COMPILED)
(edges,) = session.run(None, {"image": np.zeros((1, 3, 128, 128), np.float32)})
print(session.get_providers(), edges.shape)
"""

PLUGIN = """
import onnxruntime
from ort_rknn.plugin import get_ep_name, get_library_path
onnxruntime.set_default_logger_severity(1)
onnxruntime.register_execution_provider_library("rknn", get_library_path())
print([device.device.metadata["soc"] for device in onnxruntime.get_ep_devices() if device.ep_name == get_ep_name()])
"""


def test_the_system_s_own_pip_refuses_and_a_virtual_environment_is_the_way(home: Path) -> None:
    done = run(["sh", "-c", "/usr/bin/python3 -m pip install ort-rknn"])
    assert done.returncode != 0
    assert "externally-managed-environment" in done.stdout
    done = run(["ort-rknn", "--version"])
    assert re.search(r"^ort-rknn \d+\.\d+\.\d+ \(onnxruntime 1\.\d+", done.stdout, re.MULTILINE), done.stdout


def test_what_only_runs_is_small(home: Path) -> None:
    packages = home / "v" / "lib" / "python3.11" / "site-packages"
    names = {path.name for path in packages.iterdir()}
    assert not names & {"onnx", "onnx_ir", "sympy", "ml_dtypes"}
    others = ("numpy", "numpy.libs", "onnxruntime", "onnxruntime.libs", "pip", "setuptools")
    files = [path for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    own = sum(path.lstat().st_size for path in files if path.relative_to(packages).parts[0] not in others)
    print(f"ort-rknn above onnxruntime and numpy: {own / 1e6:.0f} MB")
    assert own < 60e6


def test_doctor_on_a_board(home: Path) -> None:
    done = run(["ort-rknn", "doctor"])
    assert TRACEBACK not in done.stdout
    for words in ("rk3588 (device tree: radxa,rock-5b", "rknpu 0.9.8", "/dev/dri/renderD129", "librknnrt.so 2.5.0"):
        assert words in " ".join(done.stdout.replace("│", " ").split()), done.stdout
    assert re.search(r"ok .* native lanes .* there", done.stdout)
    assert re.search(r"ok .* device .* npu, 3 cores", done.stdout)


def test_the_demo_shows_the_npu_without_toolkit_and_without_onnx(home: Path) -> None:
    done = run(["ort-rknn", "demo"])
    assert "['RKNNExecutionProvider', 'CPUExecutionProvider'] (1, 8, 128, 128)" in done.stdout, done.stdout
    assert "all 5 nodes on the NPU, in 1 segment" in done.stdout


def test_what_needs_the_extra_names_it(home: Path) -> None:
    done = run(["ort-rknn", "convert", "model.onnx"])
    assert done.returncode != 0
    assert 'pip install "ort-rknn[convert]"' in done.stdout
    assert TRACEBACK not in done.stdout


def test_a_container_that_hides_the_device_tree(home: Path) -> None:
    done = run(["python", "-c", COMPILED], layout="container")
    assert "['CPUExecutionProvider']" in done.stdout, done.stdout
    assert "this container hides the device tree" in done.stdout
    assert "set ORT_RKNN_TARGET" in done.stdout


@pytest.mark.parametrize("device", ["auto", "npu"])
def test_the_target_s_name_replaces_a_hidden_device_tree(home: Path, device: str) -> None:
    env = {"ORT_RKNN_TARGET": "rk3588", "ORT_RKNN_DEVICE": device}
    done = run(["python", "-c", COMPILED], layout="container", env=env)
    assert "['RKNNExecutionProvider', 'CPUExecutionProvider'] (1, 8, 128, 128)" in done.stdout, done.stdout
    done = run(["ort-rknn", "doctor", "--no-test"], layout="container", env=env)
    assert "rk3588, as ORT_RKNN_TARGET says" in " ".join(done.stdout.replace("│", " ").split()), done.stdout
    assert not re.search(r"│ bad ", done.stdout), done.stdout


def test_the_target_s_name_replaces_a_hidden_device_tree_for_the_plugin(home: Path) -> None:
    done = run(["python", "-c", PLUGIN], layout="container")
    assert done.stdout.splitlines()[-1] == "[]", done.stdout
    assert "this container hides the device tree" in done.stdout
    done = run(["python", "-c", PLUGIN], layout="container", env={"ORT_RKNN_TARGET": "rk3588"})
    assert done.stdout.splitlines()[-1] == "['rk3588']", done.stdout


def test_a_name_that_is_no_soc_is_said_and_not_asked_for_again(home: Path) -> None:
    done = run(["ort-rknn", "doctor", "--no-test"], layout="container", env={"ORT_RKNN_TARGET": "rk3599"})
    said = " ".join(done.stdout.replace("│", " ").split())
    assert "says 'rk3599', and no SoC of that name is known; known are rk3588" in said, said
    done = run(["python", "-c", PLUGIN], layout="container", env={"ORT_RKNN_TARGET": "rk3599"})
    assert "says 'rk3599', and no SoC of that name is known" in done.stdout, done.stdout


def test_without_a_device_node(home: Path) -> None:
    done = run(["ort-rknn", "doctor", "--no-test"], layout="bare")
    assert "no device node" in done.stdout
    assert TRACEBACK not in done.stdout


def test_without_home(home: Path) -> None:
    done = run(["/home/rock/v/bin/python", "-c", COMPILED], env={"HOME": "/nowhere"})
    assert "(1, 8, 128, 128)" in done.stdout, done.stdout
    done = run(["/home/rock/v/bin/ort-rknn", "doctor", "--no-test"], env={"HOME": ""})
    assert TRACEBACK not in done.stdout, done.stdout


def test_read_only(home: Path) -> None:
    done = run(["/home/rock/v/bin/python", "-c", COMPILED], readonly=True, env={"HOME": "/etc"})
    assert "['RKNNExecutionProvider', 'CPUExecutionProvider'] (1, 8, 128, 128)" in done.stdout, done.stdout


def test_a_userland_without_libstdcxx_gets_a_table(home: Path) -> None:
    hidden = "usr/lib/aarch64-linux-gnu/libstdc++.so.6"
    done = run(["ort-rknn", "doctor"], hidden=hidden)
    assert TRACEBACK not in done.stdout, done.stdout
    assert len(done.stdout.splitlines()) < 60
    assert "libstdc++" in done.stdout
