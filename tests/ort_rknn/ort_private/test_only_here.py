"""onnxruntime's private names stand in ``ort_rknn/ort_private`` and nowhere else in the three rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_inference_collection as collection
import pytest

from ort_rknn.ort_private.arguments import TINY_MODEL

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "ort_rknn" / "ort_private"
FILES = sorted(
    path
    for room in ("ort_rknn", "converters", "conformance")
    for path in (ROOT / room).rglob("*.py")
    if HOME not in path.parents
)

EARLIER = {
    "_inputs_meta",
    "_model_bytes",
    "_model_path",
    "_outputs_meta",
    "_provider_options",
    "_sess",
    "_sess_options",
}
"""Of releases that are not installed here."""

ORDINARY = {"_provider_options", "_providers", "_session"}
"""Words that classes of ours have for attributes of their own: refused only in classes made of onnxruntime's."""

NATIVE = {"OrtValueVector", "initialize_session", "ortvalue_from_shape_and_onnx_type", "onnxruntime_pybind11_state"}
"""Names of the extension module that its Python code does not pass on."""


def _private() -> set[str]:
    """The underscored names of onnxruntime's Python classes and of their instances."""
    session = onnxruntime.InferenceSession(TINY_MODEL, providers=["CPUExecutionProvider"])
    value = onnxruntime.OrtValue.ortvalue_from_numpy(np.array(True))
    names = {name for made in (session, value, session.io_binding()) for name in vars(made)}
    for kind in vars(collection).values():
        if isinstance(kind, type) and kind.__module__ == collection.__name__:
            names |= {name for base in kind.__mro__[:-1] if base.__module__ == kind.__module__ for name in vars(base)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


PRIVATE = (_private() | EARLIER) - {"_generate_next_value_"}


def _found(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of every use."""
    tree = ast.parse(text)
    ours = {
        id(inside)
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef) and not any(isinstance(base, ast.Call) for base in kind.bases)
        for inside in ast.walk(kind)
        if isinstance(inside, ast.Attribute) and isinstance(inside.value, ast.Name) and inside.value.id == "self"
    }
    asked = {
        id(node.args[1]): node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr", "setattr", "delattr")
        and len(node.args) > 1
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                name = f"{module}.{alias.name}".lstrip(".")
                if name.startswith("onnxruntime.capi") or name == "ort_rknn.ort_private.own.native":
                    yield node.lineno, name
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and str(first.value).startswith("onnxruntime.capi"):
                yield node.lineno, str(first.value)
        elif isinstance(node, ast.Attribute):
            own = node.attr in ORDINARY and id(node) in ours
            if (node.attr in PRIVATE and not own) or node.attr in NATIVE:
                yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and id(node) in asked and node.value in PRIVATE | NATIVE:
            yield node.lineno, str(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name in PRIVATE - ORDINARY:
            yield node.lineno, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_private_name_elsewhere(path: Path) -> None:
    found = [f"line {line}: {name}" for line, name in _found(path.read_text(encoding="utf-8"))]
    assert not found, f"onnxruntime promises none of these; use ort_rknn.ort_private: {'; '.join(found)}"


@pytest.mark.parametrize(
    "text",
    [
        "from onnxruntime.capi import _pybind_state as C",
        "import onnxruntime.capi.onnxruntime_inference_collection as c",
        "from onnxruntime import capi",
        "import_module('onnxruntime.capi._pybind_state')",
        "session._sess.run([], {})",
        "getattr(value, '_ortvalue', None)",
        "class A(B):\n    def _create_inference_session(self): ...",
        "class A:\n    def f(self): self._sess_options = 1",
        "native.initialize_session([], [], set())",
        "other._session",
        "from ort_rknn.ort_private.own import native",
    ],
)
def test_it_is_found(text: str) -> None:
    assert list(_found(text))


def test_ordinary_words_are_not() -> None:
    assert not list(_found("class A:\n    def f(self): return self._session, session.get_inputs()"))
