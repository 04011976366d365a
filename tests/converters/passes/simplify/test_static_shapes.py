from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.prepare import prepare
from tests.helpers.onnx_models import build, check_prepared, random

FLOAT = TensorProto.FLOAT


def add(**inputs: list[int | str | None]) -> onnx.ModelProto:
    nodes = [helper.make_node("Add", list(inputs), ["y"])]
    return build(nodes, {name: (FLOAT, dims) for name, dims in inputs.items()}, ["y"])


def shapes(model: onnx.ModelProto, **options: Any) -> dict[str, Any]:
    prepared = prepare(onnx_graph.load(model), ConvertOptions(**options)).model.graph
    return {value.name: onnx_graph.dims(value) for value in (*prepared.inputs, *prepared.outputs)}


def test_a_shape_fixes_its_input_and_its_symbols_elsewhere() -> None:
    found = shapes(add(a=["N", 3], b=["N", 1]), shapes={"a": (2, 3)})
    assert found == {"a": (2, 3), "b": (2, 1), "y": (2, 3)}


def test_dims_fix_symbols() -> None:
    assert shapes(add(a=["N", "M"], b=["N", 1]), dims={"N": 4, "M": 5})["y"] == (4, 5)


def test_unknown_dimensions_and_ranks_are_fixed_too() -> None:
    model = add(a=[None, 3], b=[3])
    assert shapes(model, shapes={"a": (2, 3)})["y"] == (2, 3)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert shapes(model, shapes={"a": (2, 3)})["y"] == (2, 3)


def test_inputs_that_disagree_on_a_symbol_go_their_own_way() -> None:
    assert shapes(add(a=["N"], b=["N"]), shapes={"a": (4,), "b": (1,)}) == {"a": (4,), "b": (1,), "y": (4,)}


def test_stale_shapes_in_the_file_do_not_win() -> None:
    model = add(a=["N", 3], b=[3])
    model.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    model.graph.output[0].name = "z"
    model.graph.value_info.append(helper.make_tensor_value_info("y", FLOAT, [1, 3]))
    model.graph.output[0].type.CopyFrom(helper.make_tensor_type_proto(FLOAT, [1, 3]))
    assert shapes(model, shapes={"a": (2, 3)})["z"] == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": {"c": (1,)}}, r"no input is called c\. The model's inputs: a, b"),
        ({"shapes": {"a": (2, 4)}}, r"input a: wanted \[2, 4\], but the model declares \[N, 3\]"),
        ({"shapes": {"a": (2,)}}, r"input a: wanted \[2\], but the model declares \[N, 3\]"),
        ({"shapes": {"a": (2, 3)}, "dims": {"N": 5}}, "dimension N was given as 5"),
        ({"shapes": {"b": (1, 2)}}, "dimension M cannot be both 1 and 2"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        shapes(add(a=["N", 3], b=["M", "M"]), **options)


def test_a_shape_a_node_cannot_work_with_is_refused() -> None:
    nodes = [helper.make_node("MatMul", ["a", "w"], ["y"])]
    model = build(nodes, {"a": (FLOAT, ["N", "K"])}, ["y"], {"w": random(3, 4)})
    assert shapes(model, shapes={"a": (2, 3)})["y"] == (2, 4)
    with pytest.raises(ModelError, match="the shapes given contradict the model"):
        shapes(model, shapes={"a": (2, 5)})


def test_changes_are_said() -> None:
    prepared = prepare(onnx_graph.load(add(a=["N", 3], b=[3])), ConvertOptions(shapes={"a": (2, 3)}))
    assert "input a fixed to [2, 3]" in prepared.changes


def test_answers_stay() -> None:
    feed = {"a": random(2, 3), "b": random(2, 1)}
    check_prepared(add(a=["N", 3], b=["N", 1]), feed, dims={"N": 2})


def test_a_question_mark_is_no_name() -> None:
    assert shapes(add(a=["?", "?"], b=[3, 4]), shapes={"a": (3, 4)}) == {"a": (3, 4), "b": (3, 4), "y": (3, 4)}
