from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.size_limit import oversized_reason
from ort_rknn_converters.pipeline.convert import plan_only

BIG = [2**31, 2**31, 2, 1, 2, 1]
"""2^64 elements: onnxruntime opens such a model, and nobody can run it."""


def impossible(
    op: str, shape: list[int], result: list[Any], constants: dict[str, list[int]] | None = None, **attributes: Any
) -> onnx.ModelProto:
    """A model of one op whose input or output has more elements than 64 bits count."""
    value = helper.make_tensor_value_info
    node = helper.make_node(op, ["x", *(constants or {})], ["y"], name="node", **attributes)
    graph = helper.make_graph(
        [node],
        "impossible",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.INT64 if op == "Size" else TensorProto.FLOAT, result)],
        [numpy_helper.from_array(np.array(numbers, np.int64), name) for name, numbers in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    "model",
    [
        impossible("Relu", BIG, BIG),
        impossible("ReduceMean", BIG, [1] * 6, axes=list(range(6))),
        impossible("Expand", [1] * 6, BIG, {"shape": BIG}),
        impossible("Tile", [1] * 6, BIG, {"repeats": BIG}),
        impossible("Softmax", [2**31, 2**31, 2, 2, 2, 2, 2], [2**31, 2**31, 2, 2, 2, 2, 2]),
        impossible(
            "Transpose", [2**31, 2**31, 2, 2, 2, 2, 2], [2, 2, 2, 2, 2, 2**31, 2**31], perm=[2, 3, 4, 5, 6, 0, 1]
        ),
        impossible("Size", BIG, []),
        impossible("Flatten", BIG, ["rows", 2], axis=3),
        impossible("Einsum", [2**31, 2**31, 8, 4], [2**31, 8], equation="abcd->ac"),
        impossible("GlobalAveragePool", [1, 2, 2**31, 2**33], [1, 2, 1, 1]),
    ],
    ids=lambda model: model.graph.node[0].op_type,
)
def test_tensors_beyond_64_bits_stay_on_the_cpu_with_a_plain_reason(model: onnx.ModelProto, tmp_path: Path) -> None:
    plan = plan_only(model, "rk3588", known_failures=tmp_path, min_gain=0)
    assert "GB, more than" in " ".join(str(plan).split())


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        ((2**29, 2**30), True),
        ((2**30, 2**30), False),
        ((0, 2**29, 2**30), True),
        ((0, 2**32, 2**32), False),  # a pass may take the last two as one
        ((), True),
    ],
)
def test_a_shape_is_known_where_64_bits_count_its_bytes(shape: tuple[int, ...], known: bool) -> None:
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
    assert onnx_graph.static_shape(value) == (shape if known else None)


def test_the_size_is_said_of_what_is_too_large() -> None:
    def reason(*shape: int | str) -> str | None:
        value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
        return oversized_reason(ir.node("Relu", [value]))

    assert reason(2**20) is None
    assert reason(2**40, "rows") is None
    assert reason(10**9) == "Relu: x has 4.0 GB, more than an ONNX file may hold"
    assert reason(10**10, 10**10) == "Relu: x has 400000000000.0 GB, more than an ONNX file may hold"
