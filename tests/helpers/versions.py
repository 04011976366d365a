"""Marks for tests of what only later releases of onnxruntime have; the oldest this package works with is 1.20."""

from __future__ import annotations

import re
from functools import cache

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument

__all__ = ["needs_onnxruntime", "needs_opset", "newest_opset", "older_than", "skip_newer_opsets"]


def needs_onnxruntime(release: str, why: str) -> pytest.MarkDecorator:
    """Skip the test on releases before ``release``, which ``why`` tells apart: ``("1.24", "it takes any mapping")``."""
    return pytest.mark.skipif(
        older_than(release),
        reason=f"since onnxruntime {release} {why}; this is {onnxruntime.__version__}",
    )


def older_than(release: str) -> bool:
    """Whether the installed onnxruntime is from before ``release``."""
    return _numbers(onnxruntime.__version__) < _numbers(release)


def needs_opset(opset: int) -> pytest.MarkDecorator:
    """Skip the test where onnxruntime cannot run models of this opset, with which ours are compared."""
    return pytest.mark.skipif(newest_opset() < opset, reason=_too_new(opset))


def skip_newer_opsets(model: onnx.ModelProto) -> None:
    """Skip the running test where onnxruntime cannot run ``model`` because its opset is newer."""
    for entry in model.opset_import:
        if entry.domain == "" and entry.version > newest_opset():
            pytest.skip(_too_new(entry.version))


@cache
def newest_opset() -> int:
    """The newest opset of the standard that the installed onnxruntime runs; its refusal of a newer one says it."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([], "g", [value], [value])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 999)], ir_version=8)
    with pytest.raises((Fail, InvalidArgument)) as refusal:  # the one since 1.23
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (newest,) = re.findall(r"till opset (\d+)", str(refusal.value))
    return int(newest)


def _too_new(opset: int) -> str:
    return f"onnxruntime {onnxruntime.__version__} runs opsets to {newest_opset()}, not {opset}"


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".")[:2])
