"""Bare ``.rknn`` files as compiled models."""

from __future__ import annotations

from dataclasses import replace

import onnxruntime as ort
import pytest

from ort_rknn_converters.compiled.bare_rknn import load_bare, open_stub, shape_sets
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import CompiledModelError
from tests.helpers.emulator import real_path


def outside(compiled: CompiledModel) -> tuple[list[tuple[str, str, list[int]]], list[tuple[str, str, list[int]]]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(compiled.stub.read(), options, providers=["CPUExecutionProvider"])
    inputs, outputs = (
        [(one.name, one.type, one.shape) for one in side()] for side in (session.get_inputs, session.get_outputs)
    )
    return inputs, outputs


@pytest.mark.parametrize("by", ["path", "bytes"])
def test_inputs_and_outputs_are_the_onnx_models(by: str) -> None:
    path = real_path("tokens_fp16_rk3588")
    compiled = load_bare(path if by == "path" else path.read_bytes())
    inputs, outputs = outside(compiled)
    assert inputs == [("ids", "tensor(int64)", [1, 4]), ("bias", "tensor(float)", [1, 4, 8])]
    assert outputs == [("h", "tensor(float)", [1, 4, 8]), ("best", "tensor(int64)", [1, 4])]
    (step,) = compiled.npu_steps
    assert (compiled.targets, compiled.toolkit_version, step.dynamic, step.onnx) == (("rk3588",), "2.5.0", False, None)
    assert step.code["rk3588"].path == (str(path) if by == "path" else None)
    assert step.code["rk3588"].read() == path.read_bytes()
    assert [node.op_type for node in compiled.plan.nodes if node.place == "CPU"] == ["Gather", "ArgMax", "Reshape"]
    assert "bare .rknn" in str(compiled.plan)


def test_quantized_values_are_floats_outside() -> None:
    compiled = load_bare(real_path("image_int8_rk3588"))
    assert {one.dtype for one in (*compiled.npu_steps[0].inputs, *compiled.npu_steps[0].outputs)} == {"tensor(float)"}
    assert compiled.npu_steps[0].precision == "int8"


def test_several_sets_of_shapes() -> None:
    path = real_path("formats_dynamic_rk3588")
    for shapes, batch in (({}, 2), ({"image": (2, 3, 4, 4)}, 2), ({"image": [1, 3, 4, 4]}, 1)):
        compiled = load_bare(path, shapes)
        (step,) = compiled.npu_steps
        assert step.dynamic
        assert [one.shape for one in (*step.inputs, *step.outputs)] == [
            (batch, 3, 4, 4),
            (batch, 4, 4, 4),
            (batch, 4, 4, 4),
        ]
    assert "one of the 2 sets of input shapes" in str(compiled.plan)
    assert shape_sets(path) == ({"image": (2, 3, 4, 4)}, {"image": (1, 3, 4, 4)})
    assert shape_sets(real_path("image_fp16_rk3588")) == ()
    inputs, outputs = outside(replace(compiled, stub=open_stub(path)))
    assert inputs == [("image", "tensor(float)", [None, 3, 4, 4])]
    assert [shape for _, _, shape in outputs] == [[None, 4, 4, 4]] * 2
    with pytest.raises(CompiledModelError, match="but for image:2x3x4x4; image:1x3x4x4"):
        load_bare(path, {"image": (3, 3, 4, 4)})
    with pytest.raises(CompiledModelError, match="no input 'picture', but image"):
        load_bare(path, {"picture": (1,)})


def test_what_cannot_be_opened() -> None:
    with pytest.raises(CompiledModelError, match="cut off"):
        load_bare(b"RKNN\0\0\0\0" + b"x" * 60)
    with pytest.raises(FileNotFoundError):
        load_bare("nowhere.rknn")
