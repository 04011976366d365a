"""Several compiled forms in one file: shapes, SoCs, shared weights, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.compiled.bundle import Bundle
from ort_rknn_converters.compiled.model import CompiledModel, is_compiled
from ort_rknn_converters.errors import CompiledModelError, ModelError, UnknownOption
from ort_rknn_converters.onnx_file.protobuf_wire import is_bundle
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.convert_many import convert_bundle
from ort_rknn_converters.shape_sets import every_shape, shape_sets
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import fake_compile
from tests.helpers.toolkits.scripted import ScriptedToolkit

SIZE = 200
"""Rows and columns of the weight: 160 kB."""


def _heavy(*, constants: bool = False) -> bytes:
    """X [N,200] -> relu(X W)."""
    weight = numpy_helper.from_array(np.linspace(-1, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE), "W")
    nodes = [helper.make_node("MatMul", ["X", "W"], ["m"], "mm"), helper.make_node("Relu", ["m"], ["Y"], "relu")]
    if constants:
        nodes.insert(0, helper.make_node("Constant", [], ["W"], "w", value=weight))
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", SIZE])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["N", SIZE])],
        [] if constants else [weight],
    )
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(proto.SerializeToString())


def _options(*rows: int, targets: tuple[str, ...] = ("rk3588",), width: int = SIZE) -> list[ConvertOptions]:
    return [
        ConvertOptions(target=target, shapes={"X": (number, width)}, min_gain=0)
        for number in rows
        for target in targets
    ]


def _bundle(content: bytes, tmp_path: Path, *rows: int, compile: Any = fake_compile, **how: Any) -> Bundle:
    return convert_bundle(content, _options(*rows, **how), compile=compile, known_failures=tmp_path)


@pytest.mark.parametrize("constants", [False, True])
def test_what_is_saved_is_read_back_and_weights_are_stored_once(tmp_path: Path, constants: bool) -> None:
    content = _heavy(constants=constants)
    made = _bundle(content, tmp_path, 1, 2, 3)
    path = tmp_path / "m.onnx"
    assert made.save(path) == (path,)
    assert path.stat().st_size < 1.3 * 4 * SIZE * SIZE
    onnx.checker.check_model(str(path))
    assert is_compiled(path)
    assert is_bundle(path)

    for source in (path, path.read_bytes()):
        read = Bundle.load(source)
        assert [variant.shapes for variant in read.variants] == [{"X": (rows, SIZE)} for rows in (1, 2, 3)]
        assert [variant.load() for variant in read.variants] == [variant.load() for variant in made.variants]
        assert read.original is not None
        assert read.original().whole() == onnx.load_model_from_string(content)
    assert CompiledModel.load(path) == made.variants[0].load()


def test_code_beside_the_file(tmp_path: Path) -> None:
    made = _bundle(_heavy(), tmp_path, 1, 2)
    files = made.save(tmp_path / "m.onnx", embed=False)
    assert len(files) == 3
    read = Bundle.load(tmp_path / "m.onnx")
    assert [variant.load() for variant in read.variants] == [variant.load() for variant in made.variants]
    with pytest.raises(CompiledModelError, match="give the model's path"):
        Bundle.load((tmp_path / "m.onnx").read_bytes()).variants[1].load()


def test_stripped_of_all_onnx(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    _bundle(_heavy(), tmp_path, 1, 2).save(path, strip=True)
    read = Bundle.load(path)
    assert read.original is None
    assert all(step.onnx is None for variant in read.variants for step in variant.load().npu_steps)
    assert path.stat().st_size < SIZE * SIZE


def test_socs_that_are_cut_alike_share_one_form(tmp_path: Path) -> None:
    made = _bundle(_heavy(), tmp_path, 1, 2, targets=("rk3588", "rk3576"))
    assert [variant.targets for variant in made.variants] == [("rk3588", "rk3576")] * 2
    made.save(tmp_path / "m.onnx")
    step = Bundle.load(tmp_path / "m.onnx").variants[1].load().npu_steps[0]
    assert set(step.code) == {"rk3588", "rk3576"}
    assert made.targets == ("rk3588", "rk3576")


def test_each_soc_keeps_the_cut_that_is_its_best(tmp_path: Path) -> None:
    weak = ScriptedToolkit(crashes=frozenset({"MatMul", "Gemm"}))

    def compile(request: Any, **more: Any) -> Any:
        return (weak if request.target == "rk3566" else fake_compile)(request, **more)

    made = _bundle(_heavy(), tmp_path, 2, targets=("rk3588", "rk3566"), compile=compile)
    assert [variant.targets for variant in made.variants] == [("rk3588",), ("rk3566",)]
    assert [variant.load().plan.npu_nodes for variant in made.variants] == [2, 1]
    made.save(tmp_path / "m.onnx")
    assert [v.load() for v in Bundle.load(tmp_path / "m.onnx").variants] == [v.load() for v in made.variants]


def test_every_set_must_settle_every_input(tmp_path: Path) -> None:
    options = [ConvertOptions(shapes={"u": (rows, 2)}) for rows in (1, 2)]
    with pytest.raises(ModelError, match="input a is still open"):
        convert_bundle(model("shapes"), options, compile=fake_compile, known_failures=tmp_path)


def test_a_damaged_bundle_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    _bundle(_heavy(), tmp_path, 1, 2).save(path)
    proto = onnx.load(path)
    gone = [tensor for tensor in proto.graph.initializer if tensor.name == "ort_rknn.blob.1"]
    proto.graph.initializer.remove(gone[0])
    with pytest.raises(CompiledModelError, match=r"lacks ort_rknn\.blob\.1"):
        Bundle.load(proto.SerializeToString()).variants[1].load()
    gone[0].raw_data = gone[0].raw_data[:-7]
    proto.graph.initializer.append(gone[0])
    with pytest.raises(CompiledModelError, match="is damaged"):
        Bundle.load(proto.SerializeToString()).variants[1].load()
    with pytest.raises(CompiledModelError, match="one compiled form only"):
        Bundle.load(model("two"))


def test_shapes_belong_together_by_their_order() -> None:
    sets = shape_sets({"x": [(1, 2), (1, 4)], "y": [(3,)], "z": [(1,), (2,)]})
    assert sets == ({"x": (1, 2), "y": (3,), "z": (1,)}, {"x": (1, 4), "y": (3,), "z": (2,)})
    assert shape_sets({}) == ({},)
    assert shape_sets({"x": [(1,), (1,), (2,)]}) == ({"x": (1,)}, {"x": (2,)})
    with pytest.raises(UnknownOption, match="equally many"):
        shape_sets({"x": [(1,), (2,)], "y": [(1,), (2,), (3,)]})
    assert every_shape({"a": [1, 2], "b": [[1], [2]], "c": [], "d": [()]}) == {
        "a": [(1, 2)],
        "b": [(1,), (2,)],
        "c": [()],
        "d": [()],
    }


def test_a_form_for_an_input_there_is_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    _bundle(_heavy(), tmp_path, 1, 2).save(path)
    proto = onnx.load(path)
    (entry,) = [entry for entry in proto.metadata_props if entry.key == "ort_rknn.bundle"]
    entry.value = entry.value.replace('"X"', '"another"')
    with pytest.raises(CompiledModelError, match="a form is for input 'another'"):
        Bundle.load(proto.SerializeToString())
