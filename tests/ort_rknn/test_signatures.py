"""``inspect.signature``: what the installed onnxruntime shows for every public callable, then what is ours."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import onnxruntime
import pytest

import ort_rknn

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _signature(found: Any) -> inspect.Signature | None:
    """The signature as inspect shows it; onnxruntime's compiled functions have none."""
    try:
        return inspect.signature(found)
    except (TypeError, ValueError):
        return None


def _callables() -> Iterator[tuple[str, Any, Any]]:
    """Name, onnxruntime's and ours of every public function, class and method that onnxruntime shows a signature of."""
    pairs = [(name, value, getattr(ort_rknn, name)) for name, value in vars(onnxruntime).items()]
    for name, theirs, ours in pairs:
        if name.startswith("_") or inspect.ismodule(theirs) or not callable(theirs):
            continue
        yield name, theirs, ours
        if isinstance(theirs, type):
            for attribute in dir(theirs):
                if attribute == "__init__" or not attribute.startswith("_"):
                    yield f"{name}.{attribute}", getattr(theirs, attribute), getattr(ours, attribute)


ALL = [case for case in _callables() if callable(case[1]) and _signature(case[1]) is not None]


@pytest.mark.parametrize(("theirs", "ours"), [case[1:] for case in ALL], ids=[case[0] for case in ALL])
def test_ours_come_after_theirs(theirs: Any, ours: Any) -> None:
    expected, shown = _signature(theirs), _signature(ours)
    assert expected is not None
    assert shown is not None
    fixed = [p for p in expected.parameters.values() if p.kind not in VARIADIC]
    rest = [p for p in expected.parameters.values() if p.kind in VARIADIC]
    found = list(shown.parameters.values())
    assert found[: len(fixed)] == fixed
    assert [p for p in found if p.kind in VARIADIC] == rest
    assert all(p.default is not p.empty for p in found[len(fixed) :] if p.kind not in VARIADIC)
    assert shown.return_annotation == expected.return_annotation


def test_all_that_is_overridden_was_compared() -> None:
    names = {case[0] for case in ALL}
    assert {
        "IOBinding.__init__",
        "IOBinding.bind_output",
        "InferenceSession",
        "InferenceSession.__init__",
        "InferenceSession.run_async",
        "InferenceSession.set_providers",
        "OrtValue.ortvalue_from_numpy",
        "OrtValue.ortvalue_from_shape_and_type",
    } <= names
    for newer in ("ModelCompiler", "InferenceSession.create_ortvalue_from_shape_and_type"):  # since onnxruntime 1.22
        owner, _, attribute = newer.partition(".")
        found = getattr(onnxruntime, owner, None)
        assert (newer in names) == (found is not None and hasattr(found, attribute or "__init__"))


def test_what_is_ours_stands_last() -> None:
    *_, last = inspect.signature(ort_rknn.OrtValue.ortvalue_from_shape_and_type).parameters.values()
    assert (last.name, last.kind, last.default) == ("layout", last.KEYWORD_ONLY, None)


@pytest.mark.filterwarnings("ignore:onnx.version is deprecated")  # onnxruntime.backend uses it
@pytest.mark.parametrize("name", ["is_compatible", "prepare", "run", "supports_device"])
def test_the_backend(name: str) -> None:
    ours, theirs = (importlib.import_module(f"{package}.backend") for package in ("ort_rknn", "onnxruntime"))
    assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(theirs, name))


IN_NPU_MEMORY = [
    "shape",
    "numpy",
    "update_inplace",
    "data_ptr",
    "device_name",
    "data_type",
    "element_type",
    "has_value",
]
IN_NPU_MEMORY += ["tensor_size_in_bytes", "is_tensor", "is_sparse_tensor", "is_tensor_sequence"]
IN_NPU_MEMORY += ["__array__", "__dlpack__", "__dlpack_device__"]


@pytest.mark.parametrize("name", IN_NPU_MEMORY)
def test_values_in_npu_memory(name: str) -> None:
    from ort_rknn.ort_types.ortvalue import NpuOrtValue

    theirs = getattr(onnxruntime.OrtValue, name, None)
    if theirs is not None and _signature(theirs) is not None:
        assert inspect.signature(getattr(NpuOrtValue, name)) == inspect.signature(theirs)
