from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from tests.helpers.assert_same import run_cpu
from tests.helpers.onnx_models import build, one_op, random

RELU = one_op("Relu", {"x": random(2, 3)})


def test_load_takes_path_bytes_and_proto(tmp_path: Path) -> None:
    path = tmp_path / "modèle 1.onnx"
    path.write_bytes(RELU.SerializeToString())
    for model in (path, str(path), RELU.SerializeToString(), RELU):
        assert [node.op_type for node in onnx_graph.load(model).graph] == ["Relu"]


def test_missing_file_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.onnx does not exist"):
        onnx_graph.load(tmp_path / "nothing.onnx")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe no protobuf at all", "protobuf cannot parse it"),
        (b"\x08\x07", "has no graph"),
    ],
)
def test_bad_bytes_are_model_errors(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        onnx_graph.load(data)
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=f"bad.onnx {message}|bad.onnx is not an ONNX file"):
        onnx_graph.load(path)


def test_a_folder_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        onnx_graph.load(tmp_path)


def test_a_value_made_twice_is_a_model_error() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])]
    with pytest.raises(ModelError, match="not a valid ONNX graph"):
        onnx_graph.load(build(nodes, {"x": random(2)}, ["y"]))


def test_external_data_stays_lazy_and_comes_back(tmp_path: Path) -> None:
    weight, x = random(64, 64), random(2, 64, seed=1)
    model = one_op("MatMul", {"x": x}, {"w": weight})
    expected = run_cpu(model, {"x": x})["y"]
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    loaded = onnx_graph.load(path)
    assert isinstance(loaded.graph.initializers["w"].const_value, ir.ExternalTensor)
    proto = onnx_graph.to_proto(loaded)
    assert proto.graph.initializer[0].raw_data == weight.tobytes()
    assert isinstance(loaded.graph.initializers["w"].const_value, ir.ExternalTensor)
    np.testing.assert_array_equal(run_cpu(onnx_graph.to_bytes(loaded), {"x": x})["y"], expected)


def test_sparse_initializers_are_written_out() -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [2], [3.0, 4.0]),
        helper.make_tensor("i", TensorProto.INT64, [2, 2], [0, 1, 2, 0]),
        [3, 2],
    )
    model = build([helper.make_node("Add", ["x", "w"], ["y"])], {"x": np.zeros((3, 2), np.float32)}, ["y"])
    model.graph.sparse_initializer.append(sparse)
    proto = onnx_graph.to_proto(onnx_graph.load(model))
    np.testing.assert_array_equal(numpy_helper.to_array(proto.graph.initializer[0]), [[0, 3], [0, 0], [4, 0]])
    assert len(model.graph.sparse_initializer) == 1


def test_maps_go_through_unchanged() -> None:
    node = helper.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    )
    model = build([node], {"x": (TensorProto.FLOAT, ["N", 3])}, {"z": kind}, domains=["ai.onnx.ml"])
    loaded = onnx_graph.load(model)
    assert onnx_graph.value_info(loaded.graph.outputs[0]).dtype == "seq(map(int64,tensor(float)))"
    proto = onnx_graph.to_proto(loaded)
    assert proto.graph.output[0] == model.graph.output[0]
    feed = {"x": random(2, 3)}
    assert run_cpu(proto, feed) == run_cpu(model, feed)


def test_metadata_and_doc_strings_come_back() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(RELU)
    helper.set_model_props(model, {"names": "x" * 40_000})
    model.doc_string, model.graph.doc_string, model.producer_name = "doc", "graph doc", "me"
    model.graph.input[0].doc_string = "the input"
    proto = onnx_graph.to_proto(onnx_graph.load(model))
    assert (proto.doc_string, proto.graph.doc_string, proto.producer_name) == ("doc", "graph doc", "me")
    assert proto.metadata_props == model.metadata_props
    assert proto.graph.input[0].doc_string == "the input"


def test_unsaid_names_keeps_what_is_unique() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="one"),
        helper.make_node("Neg", ["a"], ["b"], name="one"),
        helper.make_node("Abs", ["b"], ["c"]),
        helper.make_node("Exp", ["c"], ["y"], name="one_1"),
    ]
    model = onnx_graph.load(build(nodes, {"x": random(2)}, ["y"]))
    assert onnx_graph.name_nodes(model) == ("2 nodes without a name of their own given one",)
    assert [node.name for node in model.graph] == ["one", "one_2", "Abs_c", "one_1"]
    assert onnx_graph.name_nodes(model) == ()


def test_value_info_spells_as_onnxruntime() -> None:
    value = ir.Value(name="v", type=ir.TensorType(ir.DataType.BFLOAT16), shape=ir.Shape([1, "N", None]))
    assert onnx_graph.value_info(value) == onnx_graph.TensorInfo("v", "tensor(bfloat16)", (1, "N", None))
    assert onnx_graph.value_info(ir.Value(name="w")) == onnx_graph.TensorInfo("w", "", ())
    kind = ir.OptionalType(ir.SequenceType(ir.TensorType(ir.DataType.UINT8)))
    assert onnx_graph.type_string(kind) == "optional(seq(tensor(uint8)))"


def test_static_shape_needs_every_dimension() -> None:
    assert onnx_graph.static_shape(ir.Value(name="v", shape=ir.Shape([1, 2]))) == (1, 2)
    assert onnx_graph.static_shape(ir.Value(name="v", shape=ir.Shape([]))) == ()
    assert onnx_graph.static_shape(ir.Value(name="v", shape=ir.Shape([1, "N"]))) is None
    assert onnx_graph.static_shape(ir.Value(name="v")) is None
    assert onnx_graph.static_shape(None) is None


def test_an_initializer_that_is_an_input_is_no_constant() -> None:
    model = build(
        [helper.make_node("Add", ["x", "w"], ["y"])], {"x": random(2), "w": random(2)}, ["y"], {"w": random(2)}
    )
    loaded = onnx_graph.load(model)
    assert onnx_graph.constant(loaded.graph.initializers["w"]) is None
    assert onnx_graph.constant(None) is None


def test_renaming_an_initializer_leaves_the_callers_proto() -> None:
    model = one_op("Add", {"x": random(2)}, {"w": random(2)})
    tensor = onnx_graph.load(model).graph.initializers["w"].const_value
    assert tensor is not None
    value = onnx_graph.initializer("other", tensor)
    assert value.name == "other"
    assert model.graph.initializer[0].name == "w"


def test_a_dimension_of_minus_one_is_an_open_one() -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [-1, 3])],
        )
    )
    loaded = onnx_graph.load(model)
    assert [onnx_graph.dims(value) for value in (*loaded.graph.inputs, *loaded.graph.outputs)] == [(None, 3)] * 2
