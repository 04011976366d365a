"""Programs on a machine that has none of the extra ``convert``: in fresh interpreters that do not find its packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = ("onnx", "onnx_ir", "sympy", "ml_dtypes")
WITHOUT = """
import importlib.util, sys
hidden = {hidden!r}
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hidden())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in hidden else found(name, package)
"""


def python(code: str, *arguments: str, there: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program without onnx and onnx-ir.

    Args:
        code: The program.
        arguments: Its arguments.
        there: One of their packages that another extra brings, too.
    """
    without = WITHOUT.format(hidden=tuple(name for name in HIDDEN if name != there))
    return subprocess.run(
        [sys.executable, "-c", without + code, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
