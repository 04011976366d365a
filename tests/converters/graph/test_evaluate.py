from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.evaluate import evaluate
from tests.helpers.onnx_models import build, random


def test_all_in_one_session() -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Neg", ["c"], ["d"])]
    model = onnx_graph.load(build(nodes, {}, ["d"], {"a": random(3), "b": random(3, seed=1)}))
    (d,) = model.graph.outputs
    answers = evaluate(list(model.graph), [d], model.opset_imports)
    np.testing.assert_array_equal(answers[d], -(random(3) + random(3, seed=1)))


def test_one_that_cannot_run_does_not_spoil_the_others() -> None:
    nodes = [
        helper.make_node("LpPool", ["a"], ["bad"], kernel_shape=[1]),
        helper.make_node("Neg", ["bad"], ["worse"]),
        helper.make_node("Neg", ["b"], ["c"]),
        helper.make_node("Abs", ["c"], ["good"]),
    ]
    constants = {"a": random(1, 1, 2, dtype=np.float64), "b": random(3)}
    model = onnx_graph.load(build(nodes, {}, {"worse": (TensorProto.DOUBLE, [1, 1, 2]), "good": random(3)}, constants))
    answers = evaluate(list(model.graph), model.graph.outputs, model.opset_imports)
    assert [value.name for value in answers] == ["good"]


def test_scalars_stay_scalars() -> None:
    model = onnx_graph.load(build([helper.make_node("Neg", ["a"], ["y"])], {}, ["y"], {"a": np.array(2, np.int64)}))
    (y,) = model.graph.outputs
    assert np.shape(evaluate(list(model.graph), [y], model.opset_imports)[y]) == ()


def test_values_of_one_name_in_different_bodies_do_not_mix() -> None:
    one, two = (
        ir.Value(name="same", const_value=ir.tensor(np.array(n)), type=ir.TensorType(ir.DataType.INT64)) for n in (1, 2)
    )
    ir.Graph([], [], nodes=[], initializers=[one], name="one")
    ir.Graph([], [], nodes=[], initializers=[two], name="two")
    node = ir.node("Add", [one, two])
    (result,) = node.outputs
    assert evaluate([node], [result], {"": 18})[result] == 3
