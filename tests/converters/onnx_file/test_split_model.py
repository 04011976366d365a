"""A model whose large contents lie beside its message: read, written and put together without copies."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.blobs import BytesBlob, FileBlob
from ort_rknn_converters.onnx_file.protobuf_wire import LENGTH, NotProtobuf, fields
from ort_rknn_converters.onnx_file.split_model import CODE, SplitModel
from ort_rknn_converters.onnx_file.weights import LARGE
from tests.helpers.large_weights import constants, large


def parted() -> SplitModel:
    return SplitModel.parse(large().SerializeToString())


def test_large_weights_are_apart_and_the_message_is_the_same() -> None:
    model = parted()
    assert [name for name, _ in model.weights.tensors] == ["w"]
    assert [tensor.name for tensor in model.skeleton.graph.initializer] == ["b"]
    read = onnx.load_model_from_string(model.read())
    onnx.checker.check_model(read, full_check=True)
    assert read == model.whole()
    assert constants(read) == constants(large())
    assert read.graph.node == large().graph.node
    assert model.size == len(model.read())
    assert model.content_size == sum(map(len, constants(large()).values()))
    assert SplitModel.parse(model.read()) == model == BytesBlob(model.read())


def test_there_is_one_graph_for_readers_that_join_nothing() -> None:
    data = coded().read()
    found = [number for number, kind, _, _ in fields(data, 0, len(data)) if kind == LENGTH]
    assert found.count(7) == 1


def test_data_are_not_copied() -> None:
    model = parted()
    array = model.weights.tensors[0][1].numpy()
    views = [np.frombuffer(piece, np.uint8) for piece in model.chunks() if len(piece) >= LARGE]
    assert [np.shares_memory(array, view) for view in views] == [True]


def coded() -> SplitModel:
    """Nodes between which two carry code."""
    model = large()
    contexts = [helper.make_node("EPContext", ["x"], [f"c{n}"], f"code{n}", domain="com.microsoft") for n in range(2)]
    nodes = [contexts[0], *model.graph.node, contexts[1]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    part = SplitModel.parse(model.SerializeToString())
    return SplitModel(part.skeleton, part.weights, {"code0": b"\0" * 300, "code1": b"\1" * 20_000})


def test_code_is_written_into_its_node() -> None:
    read = onnx.load_model_from_string(coded().read())
    assert read == coded().whole()
    assert [node.name for node in read.graph.node] == ["code0", "m", "a", "code1"]
    found = {node.name: helper.get_node_attr_value(node, CODE) for node in read.graph.node if node.attribute}
    assert found == dict(coded().code)


def test_large_code_is_apart_again_when_it_is_read() -> None:
    model = coded()
    large = SplitModel(model.skeleton, model.weights, {"code0": b"\0" * 300, "code1": b"\1" * LARGE})
    read = SplitModel.parse(large.read())
    assert list(read.code) == ["code1"]
    assert read.code["code1"] == b"\1" * LARGE
    assert read.whole() == large.whole()


@pytest.mark.parametrize("threshold", [1, LARGE])
def test_weights_go_into_a_file_of_their_own_and_come_back(tmp_path: Path, threshold: int) -> None:
    for name, pieces in parted().files("m.onnx", weights_file="w.bin", threshold=threshold).items():
        (tmp_path / name).write_bytes(b"".join(pieces))
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    bias = LARGE // 512
    assert (tmp_path / "w.bin").stat().st_size == LARGE + (bias if threshold == 1 else 0)
    assert constants(onnx.load(tmp_path / "m.onnx")) == constants(large())
    read = SplitModel.of(FileBlob(str(tmp_path / "m.onnx")))
    assert read == parted()
    (tmp_path / "w.bin").unlink()
    assert read == parted()  # it holds on to the file
    with pytest.raises(CompiledModelError, match=r"w\.bin"):
        SplitModel.of(FileBlob(str(tmp_path / "m.onnx")))


def test_a_file_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    model, weights = parted().files("m.onnx", weights_file="../w.bin").values()
    (tmp_path / "w.bin").write_bytes(b"".join(weights))
    (tmp_path / "here").mkdir()
    with pytest.raises(ValueError, match="outside"):
        SplitModel.parse(b"".join(model), tmp_path / "here" / "m.onnx")


def test_other_ways_to_store_a_large_weight_stay_in_the_message() -> None:
    model = large()
    values = list(itertools.repeat(1.5, LARGE // 4))
    model.graph.initializer.append(helper.make_tensor("f", TensorProto.FLOAT, [LARGE // 4], values))
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [2], [b"x" * LARGE, b"y"]))
    read = SplitModel.parse(model.SerializeToString())
    assert [tensor.name for tensor in read.skeleton.graph.initializer] == ["b", "f", "s"]
    assert sorted(read.initializers()) == ["b", "f", "w"]
    assert np.array_equal(read.initializers()["f"].numpy(), numpy_helper.to_array(model.graph.initializer[2]))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises((ValueError, DecodeError)):
        SplitModel.parse(b"\xff" * 100)
    with pytest.raises(NotProtobuf):
        SplitModel.parse(large().SerializeToString()[:-5])
