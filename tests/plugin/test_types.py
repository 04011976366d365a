"""Types and layouts of a segment's inputs and outputs: as the package's own device has them, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.helpers.compiled_models import contexts, set_attribute
from tests.helpers.emulated_npu import build_native, feeds, npu, segment
from tests.helpers.emulator import Emulator, Model, Tensor, private_copy
from tests.helpers.plugin import one_segment, plugin_session

Error = onnxruntime.capi.onnxruntime_pybind11_state


def both(emulator: Emulator, model: Model, dtypes: dict[str, str] | None = None) -> None:
    """Run on plain onnxruntime and on the device; the same bits must come out, and the emulator's own numbers."""
    code = segment(model, dtypes=dtypes)
    given = feeds(code)
    session = plugin_session(one_segment(model, dtypes))
    got = session.run(None, dict(zip((spec.name for spec in code.inputs), given, strict=True)))
    context = npu(emulator).open(code)
    with np.errstate(over="ignore"):
        expected: list[Any] = context.run(given)
    context.close()
    assert [(a.dtype, a.shape) for a in got] == [(b.dtype, b.shape) for b in expected]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_NATIVE_LIBRARY", str(build_native()))


OUT = (Tensor("y", "float16", (1, 4)),)


@pytest.mark.parametrize("stored", ["float16", "float32", "int8", "uint8", "int32", "int64", "bool"])
def test_inputs_of_the_npus_own_type(plugin: Emulator, stored: str) -> None:
    for shape in ((1, 4), (1, 3, 6, 5), (2, 5, 3, 3), (1, 1, 6, 5), (1, 7, 1, 1), (1,), (1, 2, 3, 4, 5)):
        both(plugin, Model((Tensor("x", stored, shape, "nhwc" if len(shape) == 4 else "-"),), OUT))


OTHERS = ["float64", "float16", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]


@pytest.mark.parametrize("dtype", OTHERS)
def test_inputs_that_become_float16(plugin: Emulator, dtype: str) -> None:
    both(plugin, Model((Tensor("x", "float16", (1, 4)),), OUT), {"x": dtype})
    both(plugin, Model((Tensor("x", "float16", (1, 3, 6, 5), "nhwc"),), OUT), {"x": dtype})


@pytest.mark.parametrize("stored", ["int32", "int64", "int8", "bool"])
def test_inputs_that_become_integers(plugin: Emulator, stored: str) -> None:
    for dtype in ("float32", "float64", "float16", "uint8", "int8", "int32", "int64", "bool"):
        both(plugin, Model((Tensor("x", stored, (1, 4)),), OUT), {"x": dtype})


def test_inputs_that_are_quantized(plugin: Emulator) -> None:
    for dtype in ("float32", "float64", "uint8", "int8", "int64"):
        both(plugin, Model((Tensor("x", "int8", (1, 3, 6, 5), "nhwc", 0.5, -3),), OUT), {"x": dtype})


@pytest.mark.parametrize("stored", ["float16", "float32", "int8", "int32", "int64", "bool"])
def test_outputs(plugin: Emulator, stored: str) -> None:
    given = (Tensor("x", "float16", (1, 4)),)
    for dtype in ("float32", "float64", "float16", "int32", "int64", "uint8", "bool"):
        both(plugin, Model(given, (Tensor("y", stored, (1, 3, 2, 5), "nchw"),)), {"y": dtype})


@pytest.mark.parametrize("stored", ["float16", "int8", "int64"])
def test_outputs_in_the_npus_order(plugin: Emulator, stored: str) -> None:
    given = (Tensor("x", "float16", (1, 4)),)
    for shape in ((1, 3, 2, 5), (2, 17, 9, 1), (1, 1, 4, 4), (1, 6, 1, 1)):
        both(plugin, Model(given, (Tensor("y", stored, shape, "nhwc"),)), {"y": "float32"})


def test_quantized_outputs_and_integers_beyond_float32(plugin: Emulator) -> None:
    both(plugin, Model((Tensor("x", "float16", (1, 4)),), (Tensor("y", "int8", (1, 9), "-", 0.25, 5),)))
    both(plugin, Model((Tensor("x", "float16", (1, 4)),), (Tensor("y", "int64", (1, 9)),)))


def test_inputs_and_outputs_in_another_order_than_the_codes(plugin: Emulator) -> None:
    one, two = Tensor("a", "float16", (1, 4)), Tensor("b", "int64", (2, 3))
    model = Model((one, two), (Tensor("p", "float16", (1, 4)), Tensor("q", "int64", (2, 2))))
    swapped = Model((two, one), (model.outputs[1], model.outputs[0]))
    given = {"a": np.float32([[1, 2, 3, 4]]), "b": np.arange(6).reshape(2, 3)}
    session = plugin_session(one_segment(model))
    other = onnx.ModelProto.FromString(one_segment(swapped))
    set_attribute(contexts(other)[0], "ep_cache_context", model.data())
    turned = plugin_session(other.SerializeToString())
    for name in ("p", "q"):
        np.testing.assert_array_equal(session.run([name], given)[0], turned.run([name], given)[0])


def test_names_that_differ_go_by_place(plugin: Emulator) -> None:
    model = Model((Tensor("x", "float16", (1, 4)),), OUT)
    renamed = one_segment(Model((Tensor("other", "float16", (1, 4)),), (Tensor("z", "float16", (1, 4)),)))
    proto = onnx.ModelProto.FromString(renamed)
    set_attribute(contexts(proto)[0], "ep_cache_context", model.data())
    x = np.float32([[1, 2, 3, 4]])
    np.testing.assert_array_equal(
        plugin_session(proto.SerializeToString()).run(None, {"other": x})[0],
        plugin_session(one_segment(model)).run(None, {"x": x})[0],
    )


def test_rank_0_and_dimensions_of_1_that_the_compiler_adds(plugin: Emulator) -> None:
    model = Model((Tensor("x", "float16", (1,)), Tensor("z", "float16", (1, 1, 4))), (Tensor("y", "float16", (1,)),))
    session = plugin_session(one_segment(model, shapes={"x": (), "y": (), "z": (4,)}))
    got = session.run(None, {"x": np.array(3, np.float32), "z": np.float32([1, 2, 3, 4])})[0]
    np.testing.assert_array_equal(got, model.answer([np.float32([3]), np.float32([[[1, 2, 3, 4]]])])[0][0])


def test_pictures_go_in_as_float16_unless_told_otherwise(plugin: Emulator) -> None:
    model = Model((Tensor("x", "float16", (1, 3, 6, 5), "nhwc"),), OUT)
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 5)).astype(np.float32)
    for halves in (True, False):
        session = plugin_session(one_segment(model), half_inputs=halves)
        before = plugin.count("copied_in")
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], model.answer([x])[0])
        assert plugin.count("copied_in") - before == (x.nbytes // 2 if halves else x.nbytes)


def test_a_runtime_that_refuses_float16_gets_float32(plugin: Emulator, tmp_path: Path) -> None:
    other = Emulator(private_copy(plugin.path, tmp_path))
    model = Model((Tensor("x", "float16", (1, 3, 6, 5), "nhwc"),), OUT)
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 5)).astype(np.float32)
    with other.watched():
        other.configure(fault="rknn_inputs_set@1=-5")
        session = plugin_session(one_segment(model), runtime_library=other.path)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], model.answer([x])[0])
        assert other.count("copied_in") == x.nbytes
        del session


def test_values_that_the_npu_cannot_hold(plugin: Emulator) -> None:
    model = Model((Tensor("x", "int32", (1, 2)),), OUT)
    session = plugin_session(one_segment(model, {"x": "int64"}))
    session.run(None, {"x": np.int64([[-(2**31), 2**31 - 1]])})
    with pytest.raises(Error.InvalidArgument, match="input 'x' of segment segment has values that the NPU cannot hold"):
        session.run(None, {"x": np.int64([[0, 2**31]])})


def test_types_that_do_not_exist_there(plugin: Emulator) -> None:
    proto = onnx.ModelProto.FromString(one_segment(Model((Tensor("x", "float16", (1, 4)),), OUT)))
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    with pytest.raises(Error.NotImplemented, match="input 'x': the NPU's runtime takes no"):
        plugin_session(proto.SerializeToString())


def test_code_with_several_sets_of_shapes_runs_the_models_own(plugin: Emulator) -> None:
    model = Model((Tensor("x", "float16", (1, 4)),), OUT)
    several = model.data().replace(b"1,4", b"1,4|1,8")
    wide = Model((Tensor("x", "float16", (1, 8)),), (Tensor("y", "float16", (1, 8)),))
    proto = onnx.ModelProto.FromString(one_segment(wide))
    set_attribute(contexts(proto)[0], "ep_cache_context", several)
    x = np.arange(8, dtype=np.float32).reshape(1, 8)
    np.testing.assert_array_equal(plugin_session(proto.SerializeToString()).run(None, {"x": x})[0], wide.answer([x])[0])
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"
    with pytest.raises(
        Error.NotImplemented, match=r"several sets of shapes, and input 'x' \[1,\?\] does not say which"
    ):
        plugin_session(proto.SerializeToString())


def test_outputs_that_nobody_wants(plugin: Emulator) -> None:
    model = Model((Tensor("x", "float16", (1, 4)),), (Tensor("p", "int8", (1, 9), "-", 0.5, 1), *OUT))
    x = np.float32([[1, 2, 3, 4]])
    for number, name in enumerate(("p", "y")):
        proto = onnx.ModelProto.FromString(one_segment(model))
        kept = [value for value in proto.graph.output if value.name == name]
        proto.graph.value_info.extend(value for value in proto.graph.output if value.name != name)
        del proto.graph.output[:]
        proto.graph.output.extend(kept)
        (got,) = plugin_session(proto.SerializeToString()).run(None, {"x": x})
        np.testing.assert_array_equal(got, model.answer([x])[number])


def test_a_value_that_goes_in_twice_and_a_constant(plugin: Emulator) -> None:
    model = Model((Tensor("a", "float16", (1, 4)), Tensor("b", "float16", (1, 4)), Tensor("c", "int64", (1, 2))), OUT)
    proto = onnx.ModelProto.FromString(one_segment(model))
    contexts(proto)[0].input[1] = "a"
    del proto.graph.input[1:]
    constant = np.int64([[5, -6]])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(constant, "c"))
    x = np.float32([[1, 2, 3, 4]])
    (got,) = plugin_session(proto.SerializeToString()).run(None, {"a": x})
    np.testing.assert_array_equal(got, model.answer([x, x, constant])[0])


def test_tensors_without_a_shape_have_the_codes(plugin: Emulator) -> None:
    model = Model((Tensor("x", "float16", (1, 3, 6, 5), "nhwc"),), (Tensor("y", "float16", (1, 4, 2, 3), "nhwc"),))
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 5)).astype(np.float32)
    (got,) = plugin_session(one_segment(model, shapes={"x": None, "y": None})).run(None, {"x": x})
    np.testing.assert_array_equal(got, model.answer([x])[0])
