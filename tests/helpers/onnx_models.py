"""Small ONNX models for tests of preparation, and the check that preparing one changes no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.assert_same import assert_same_values, run_cpu
from tests.helpers.builders import OPSET, build
from tests.helpers.versions import skip_newer_opsets

EDGES = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 0.5, -0.5, 1, -1, 1.5, -2.5, 6, 20, -20, 80, -80, 1e15, -1e15],
    np.float32,
)
"""Values on which a careless rewrite gives something else."""


def one_op(
    op_type: str,
    feed: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = OPSET,
    order: Sequence[str] | None = None,
    outputs: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one op; its inputs are ``order`` (an empty string for one left out), else feed, then constants."""
    names = list(order) if order is not None else [*feed, *(constants or {})]
    made = [f"y{index}" for index in range(outputs)] if outputs > 1 else ["y"]
    node = helper.make_node(op_type, names, made, name="node", **attributes)
    return build([node], feed, made, constants, opset=opset)


def check_prepared(
    model: onnx.ModelProto,
    feed: Mapping[str, Any],
    *,
    ops: Sequence[str] | None = None,
    gone: Sequence[str] = (),
    rtol: float = 1e-5,
    **options: Any,
) -> ir.Model:
    """Prepare ``model`` and assert that it is valid, keeps its border and gives the same answers.

    Args:
        model: The model; it must not change. The test is skipped where onnxruntime does not know its opset.
        feed: Its inputs.
        ops: The exact op types wanted, in order.
        gone: Op types that must not be left.
        rtol: Relative tolerance.
        options: For :class:`ConvertOptions`.
    """
    skip_newer_opsets(model)
    before = model.SerializeToString()
    expected = run_cpu(model, feed)
    prepared = prepare(onnx_graph.load(model), ConvertOptions(**options)).model
    assert model.SerializeToString() == before
    proto = onnx_graph.to_proto(prepared)
    if all(info.type.tensor_type.HasField("shape") for info in proto.graph.output):
        onnx.checker.check_model(proto)
    assert [info.name for info in proto.graph.output] == [info.name for info in model.graph.output]
    assert [info.name for info in proto.graph.input] == [info.name for info in model.graph.input]
    actual = run_cpu(proto, feed)
    for name, value in expected.items():
        assert_same_values(value, actual[name], what=name, rtol=rtol)
    left = [node.op_type for node in prepared.graph]
    assert ops is None or left == list(ops)
    assert not set(gone) & set(left)
    names = [node.name for node in prepared.graph]
    assert all(names)
    assert len(set(names)) == len(names)
    return prepared


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """Normally distributed numbers, the same at every run."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype=dtype)
