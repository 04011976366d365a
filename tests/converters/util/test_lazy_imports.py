"""What is imported late is there when it is used, and not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

_COMMAND = """
import sys
from ort_rknn_converters.util.lazy_imports import defer_sympy
with defer_sympy():
    import ort_rknn_converters.pipeline.convert
loaded = [name for name in sys.modules if name.startswith("sympy.")]
assert not loaded, loaded
import onnx_ir as ir
assert ir.SymbolicDim("n") + 1 == ir.SymbolicDim("n + 1")
assert "sympy.core" in sys.modules
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("ort_rknn")]
"""
_BY_THE_DOOR = """
import sys
import ort_rknn_converters
ort_rknn_converters.convert
assert "onnx_ir" in sys.modules and "sympy.core" not in sys.modules
"""


@pytest.mark.parametrize("code", [_COMMAND, _BY_THE_DOOR], ids=["with", "door"])
def test_a_conversion_imports_no_algebra_until_it_is_used(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_not_there_is_still_not_there() -> None:
    code = """
from ort_rknn_converters.util.lazy_imports import lazy_imports
with lazy_imports("no_such_module", "json.tool"):
    import json.tool
    try:
        import no_such_module
    except ModuleNotFoundError:
        assert json.tool.main
"""
    subprocess.run([sys.executable, "-c", code], check=True)
