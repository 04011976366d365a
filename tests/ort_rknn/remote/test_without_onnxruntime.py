"""A PC without onnxruntime, onnx or the toolkit opens models on other machines all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.serving import put_models, served

PROGRAM = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import numpy as np
import ort_rknn as ort

a = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
with ort.InferenceSession({address!r}) as session:
    print(session.run(["K"], {{"A": a, "B": a}})[0].tolist())
    print([result[0][0].tolist() for result in session.map(["K"], [{{"A": a * n, "B": a}} for n in range(3)])])
    print([(one.name, one.type, list(one.shape)) for one in session.get_inputs()], session.get_modelmeta().domain)
    for names, feed in ((None, {{"A": a}}), (None, {{"A": a[:2], "B": a}}), ("K", {{"A": a, "B": a}})):
        try:
            session.run(names, feed)
        except Exception as error:
            print(type(error).__name__, str(error).splitlines()[0][:90])
try:
    ort.InferenceSession("model.onnx")
except ImportError as error:
    print(error)
print(sorted({{"grpc", "onnxruntime", "onnx"}} & sys.modules.keys()))
"""
WANTED = """\
[[-1.0, 8.0], [7.0, -6.0], [-1.0, 28.0]]
[[0.0, 0.0], [-1.0, 8.0], [-2.0, 16.0]]
[('A', 'tensor(float)', [3, 2]), ('B', 'tensor(float)', [3, 2])] ai.tests
ValueError Required inputs (['B']) are missing from input feed (['A']).
InvalidArgument [ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: A for the fo
TypeError output_names must be a list of names, not 'K'
onnxruntime is not installed here, and without it a session is of a model on another machine only: \
pip install onnxruntime, or open grpc://board:8001/model
"""


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_numpy_is_enough(scheme: str, tmp_path: Path) -> None:
    with served(put_models(tmp_path, "two")) as server:
        port = server.grpc_ports[0] if scheme == "grpc" else server.http_port
        absent = ("onnxruntime", "onnx", "rknn", *(("grpc", "tritonclient") if scheme == "http" else ()))
        program = PROGRAM.format(absent=absent, address=f"{scheme}://127.0.0.1:{port}/two")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    assert lines == WANTED.splitlines()
    assert loaded == ("['grpc']" if scheme == "grpc" else "[]")
