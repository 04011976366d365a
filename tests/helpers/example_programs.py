"""An environment of its own for unmodified programs from the package registry, and how they are started there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

__all__ = [
    "COMMAND",
    "INSTALLED",
    "NEEDED",
    "OURS",
    "PROGRAMS",
    "PYTHON",
    "VENV",
    "Program",
    "environment",
    "installed",
]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "programs"
VENV = ROOT / ".venv" / "programs"
LOCK = ROOT / "lock" / "programs.txt"
PYTHON = VENV / "bin" / "python"
OURS = "ort_rknn.api.session.InferenceSession"

INSTALLED = ("-c", "import ort_rknn, runpy, sys; ort_rknn.install(); del sys.argv[0]; kept = "
             "runpy.run_path(sys.argv[0], run_name='__main__')")  # fmt: skip
COMMAND = ("-m", "ort_rknn")


@dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
        script: What is run, and its arguments.
        packages: What it is made of.
        sessions: How many sessions it makes.
    """

    script: tuple[str, ...]
    packages: tuple[str, ...]
    sessions: int

    @property
    def command(self) -> tuple[str, ...]:
        """The script's path and its arguments."""
        return (str(FOLDER / "scripts" / self.script[0]), *self.script[1:])


RAPIDOCR = ("rapidocr-onnxruntime==1.4.4",)
PROGRAMS = {
    "rapidocr": Program(("ocr.py", "all"), RAPIDOCR, 3),
    "rapidocr-service": Program(("ocr_service.py",), RAPIDOCR, 3),
    "rapidocr-3": Program(("ocr_v6.py",), ("rapidocr==3.10.0",), 3),
    "magika": Program(("file_types.py",), ("magika==1.0.3",), 1),
    "faster-whisper": Program(("speech.py",), ("faster-whisper==1.2.1",), 1),
    "piper": Program(("vowels.py",), ("piper-tts==1.8.0",), 2),
    "nudenet": Program(("detect.py",), ("nudenet==3.4.2",), 1),
}


NEEDED = ("onnx", "onnx-ir", "onnxruntime", "numpy", "click", "filelock", "platformdirs", "pillow", "rich")
"""What ort_rknn needs beside them."""


def installed(name: str) -> Program:
    """The program, installed beside what ort_rknn needs, all in the lock's versions; skips what cannot be."""
    program = PROGRAMS[name]
    problem = _pip(*NEEDED) or _pip(*program.packages, *NEEDED)
    if problem:
        pytest.skip(f"{name} cannot be installed here: {problem}")
    return program


def environment(**more: str) -> dict[str, str]:
    """Environment variables for a program under test: nothing of ours but ``more``, and the witness on its path."""
    path = [str(FOLDER / "witness"), str(ROOT), str(ROOT / "converters")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORT_RKNN_")}
    return clean | {"PYTHONPATH": os.pathsep.join(path)} | more


@cache
def _pip(*packages: str) -> str:
    """Install into the programs' environment; pip's last line when it fails, else nothing."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, capture_output=True)
    command = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        str(LOCK),
        *packages,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["pip failed"])[-1] if done.returncode else ""
