"""A board with Debian 13: Python 3.13 runs models, and the toolkit, which has no wheels for it, is got another way."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.board.box import ROOT, run
from tests.board.prepare import OTHER_PYTHON

SUITE = "trixie"
DIGITS = "/home/rock/v/lib/python3.13/site-packages/ort_rknn/examples/digits.onnx"
SESSION = """
import numpy as np
import ort_rknn as ort
session = ort.InferenceSession({path!r})
(answer,) = session.run(None, {{"image": np.zeros((1, 1, 8, 8), np.float32)}})
print(session.get_providers(), answer.shape)
"""
# What stands for ssh on the board: the command and both streams go through a socket in the home.
SSH = """#!/home/rock/v/bin/python
import socket, sys, threading
there = socket.socket(socket.AF_UNIX)
there.connect("/home/rock/pc.sock")
there.sendall(sys.argv[2].encode() + b"\\0")
def send():
    while data := sys.stdin.buffer.read1(65536):
        there.sendall(data)
    there.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
answer = b"".join(iter(lambda: there.recv(65536), b""))
status, _, rest = answer.partition(b"\\n")
sys.stdout.buffer.write(rest)
sys.exit(int(status))
"""


@contextmanager
def pc(home: Path) -> Iterator[None]:
    """This machine as the PC behind ``ssh user@pc``: one call of a shell by a socket in the board's home."""
    place = home / "pc.sock"
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen(1)
        listening.settimeout(300)

        def serve() -> None:
            try:
                connection, _ = listening.accept()
            except OSError:  # nobody called
                return
            with connection:
                given = b"".join(iter(lambda: connection.recv(65536), b""))
                script, _, files = given.partition(b"\0")
                done = subprocess.run(
                    ["sh", "-c", script], input=files, stdout=subprocess.PIPE, check=False, timeout=280
                )
                connection.sendall(f"{done.returncode}\n".encode() + done.stdout)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(300)
            place.unlink(missing_ok=True)


def test_the_demo_shows_the_npu(newer: Path) -> None:
    done = run(["ort-rknn", "demo"], suite=SUITE)
    assert "['RKNNExecutionProvider', 'CPUExecutionProvider'] (1, 8, 128, 128)" in done.stdout, done.stdout
    assert "all 5 nodes on the NPU, in 1 segment" in done.stdout


def test_the_doctor_knows_that_models_are_compiled_elsewhere(newer: Path) -> None:
    done = run(["ort-rknn", "doctor", "--no-test"], suite=SUITE)
    said = " ".join(done.stdout.replace("│", " ").split())
    assert re.search(r"ok Python 3\.13\.\d+, aarch64, 64 bit", said), said
    assert "The NPU is used here." in said
    assert done.returncode == 0


def test_the_toolkit_says_what_an_owner_of_debian_13_can_do(newer: Path) -> None:
    done = run(["ort-rknn", "toolkit", "install"], suite=SUITE)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert "rknn-toolkit2 has wheels for Python 3.8 to 3.12, this is 3.13" in said, said
    for way in ("--python PATH", "install uv", "convert --on user@pc", "opens here on any Python"):
        assert way in said


def test_a_model_is_converted_on_a_pc_and_opens_here(newer: Path) -> None:
    """This board has neither onnx nor the toolkit."""
    ssh = newer / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    there = Path(sys.executable).parent / "ort-rknn"
    env = {"ORT_RKNN_SSH": "/home/rock/ssh", "ORT_RKNN_REMOTE_COMMAND": str(there)}
    shutil.copy(ROOT / "examples" / "digits" / "digits.onnx", newer / "digits.onnx")
    with pc(newer):
        words = ["ort-rknn", "convert", "digits.onnx", "--on", "user@pc", "--target", "rk3588", "--min-gain", "0"]
        done = run(["sh", "-c", f"cd && {shlex.join(words)}"], suite=SUITE, env=env)
    assert done.returncode == 0, done.stdout
    assert "converted on user@pc: digits.rknn.onnx" in done.stdout, done.stdout
    done = run(["python", "-c", SESSION.format(path="/home/rock/digits.rknn.onnx")], suite=SUITE)
    assert "['RKNNExecutionProvider', 'CPUExecutionProvider'] (1, 10)" in done.stdout, done.stdout


@pytest.mark.slow
def test_the_toolkit_in_another_python_compiles_for_this_one(newer: Path) -> None:
    """Python 3.11 lies in a folder of its own; the package stays with 3.13."""
    done = run(["sh", "-c", "cd && v/bin/pip install --quiet --no-compile 'ort-rknn[convert]'"], suite=SUITE)
    assert done.returncode == 0, done.stdout
    python = f"/{OTHER_PYTHON}/usr/bin/python3.11"
    answered = {"ORT_RKNN_TOOLKIT_WITHOUT_NPU": "1"}
    command = ["ort-rknn", "toolkit", "install", "--from", "/tmp/toolkit", "--python", python]
    done = run(command, suite=SUITE, env=answered, timeout=800)
    assert "rknn-toolkit2 2.5.0 works" in " ".join(done.stdout.split()), done.stdout
    out = "/home/rock/here.rknn.onnx"
    done = run(["ort-rknn", "convert", DIGITS, "-o", out, "--min-gain", "0"], suite=SUITE, env=answered)
    assert done.returncode == 0, done.stdout
    assert "all 14 nodes on the NPU" in done.stdout, done.stdout
    done = run(["python", "-c", SESSION.format(path=out)], suite=SUITE)
    assert "['RKNNExecutionProvider', 'CPUExecutionProvider'] (1, 10)" in done.stdout, done.stdout
