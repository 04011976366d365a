from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.extract import extract
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import partition, planned_steps
from ort_rknn_converters.targets import find_target
from tests.helpers.graph_builders import chain, tangle


def run(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def with_weight(kind: str = "Add") -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="a"),
        helper.make_node(kind, ["a", "w"], ["b"], name="b"),
        helper.make_node("Neg", ["b"], ["y"], name="y"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    weights = [numpy_helper.from_array(np.full((2, 3), 2, np.float32), "w"), numpy_helper.from_array(np.ones(9), "u")]
    body = helper.make_graph(nodes, "g", value[:1], value[1:], weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("seed", range(15))
def test_the_parts_together_compute_what_the_whole_does(seed: int) -> None:
    model = tangle(seed)
    plan = partition(model, find_target("rk3588"), ConvertOptions(min_gain=0))
    rng = np.random.default_rng(seed)
    known = {name: rng.standard_normal((1, 8), dtype=np.float32) for name in ("x", "w")}
    names = {value.name for value in model.graph.inputs}
    whole = run(onnx_graph.to_proto(model), {name: known[name] for name in names if name})
    for part in planned_steps(model, plan):
        piece = extract(model, part.nodes, part.inputs, part.outputs)
        assert [info.name for info in piece.graph.input] == list(part.inputs)
        known |= run(piece, {name: known[name] for name in part.inputs})
    for name, expected in whole.items():
        np.testing.assert_array_equal(known[name], expected)


def test_only_the_initializers_in_use_come_along() -> None:
    model = onnx_graph.load(with_weight())
    piece = extract(model, ["b"], None, ["b"])
    assert [info.name for info in piece.graph.input] == ["a"]
    assert [tensor.name for tensor in piece.graph.initializer] == ["w"]
    assert [(one.domain, one.version) for one in piece.opset_import] == [("", 17)]


def test_values_between_the_nodes_keep_their_shapes() -> None:
    model = onnx_graph.load(with_weight())
    piece = extract(model, ["a", "b"], None, ["b"])
    assert [info.name for info in piece.graph.value_info] == ["a"]
    assert [dim.dim_value for dim in piece.graph.value_info[0].type.tensor_type.shape.dim] == [2, 3]


def test_a_constant_among_the_outputs_comes_through_an_identity() -> None:
    model = onnx_graph.load(with_weight())
    x = np.ones((2, 3), np.float32)
    answers = run(extract(model, ["a", "b"], None, ["b", "w"]), {"x": x})
    np.testing.assert_array_equal(answers["w"], 2 * x)
    np.testing.assert_array_equal(answers["b"], 3 * x)


def test_what_a_body_captures_is_an_input() -> None:
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        agraph (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
            a = Relu(x)
            y = If(c) <then_branch = t () => (float[2] p) { p = Add(a, w) },
                       else_branch = e () => (float[2] q) { q = Neg(a) }>
        }"""
    model = onnx_graph.load(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    onnx_graph.name_nodes(model)
    name = model.graph[1].name or ""
    piece = extract(model, [name], None, ["y"])
    assert [info.name for info in piece.graph.input] == ["c", "a"]
    answer = run(piece, {"c": np.array(True), "a": np.ones(2, np.float32)})
    np.testing.assert_array_equal(answer["y"], [2, 3])


def test_weights_in_another_file_stay_there(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(with_weight(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    piece = extract(onnx_graph.load(path), ["a", "b"], None, ["b"])
    (tensor,) = piece.graph.initializer
    assert tensor.data_location == TensorProto.EXTERNAL
    places = {entry.key: entry.value for entry in tensor.external_data}
    assert Path(places["location"]) == tmp_path / "weights.bin"


def test_local_functions_come_along() -> None:
    text = """
        <ir_version: 8, opset_import: ["": 17, "mine": 1]>
        agraph (float[2] x) => (float[2] y) { a = Relu(x)  y = mine.twice(a) }
        <domain: "mine", opset_import: ["": 17]>
        twice (v) => (r) { r = Add(v, v) }"""
    model = onnx_graph.load(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    onnx_graph.name_nodes(model)
    piece = extract(model, [model.graph[1].name or ""], None, ["y"])
    assert [function.name for function in piece.functions] == ["twice"]
    np.testing.assert_array_equal(run(piece, {"a": np.ones(2, np.float32)})["y"], [2, 2])


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs", "said"),
    [
        (["nobody"], None, ["y"], "no node is called 'nobody'"),
        (["b"], None, ["nothing"], "do not make 'nothing'"),
        (["b"], [], ["b"], "also read a"),
        (["b"], ["a", "nothing"], ["b"], "no value is called 'nothing'"),
    ],
)
def test_wrong_names_are_errors(nodes: list[str], inputs: list[str] | None, outputs: list[str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        extract(onnx_graph.load(with_weight()), nodes, inputs, outputs)


def test_an_input_nobody_reads_is_kept_when_asked_for() -> None:
    model = chain("a = Relu(x)", "y = Neg(a)", inputs="x w")
    piece = extract(model, ["y"], ["w", "a"], ["y"])
    assert [info.name for info in piece.graph.input] == ["w", "a"]
