"""ONNX's messages and tensors without onnx and onnx-ir: as theirs, and enough to open every compiled model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.onnx_file import lite_messages, lite_tensors
from tests.helpers.without_onnx import python

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "conformance" / "ort_rknn_conformance" / "doctor" / "models"


def test_the_descriptor_is_onnx_s_as_far_as_it_goes() -> None:
    for name in ("ModelProto", "GraphProto", "NodeProto", "TensorProto", "TypeProto", "AttributeProto"):
        theirs = {field.name: field.number for field in getattr(onnx, name).DESCRIPTOR.fields}
        ours = {field.name: field.number for field in getattr(lite_messages, name).DESCRIPTOR.fields}
        assert {key: ours.get(key) for key in theirs} == theirs


def test_the_types_are_onnx_ir_s() -> None:
    for kind in ir.DataType:
        ours = lite_tensors.DataType(kind.value)
        assert ours.name == kind.name
        if kind.name not in ("UNDEFINED", "STRING"):
            assert ours.bitwidth == kind.bitwidth, kind


@pytest.mark.parametrize(
    "value", [3, 2.5, "text", [1, 2], ["a", "b"], helper.make_tensor_type_proto(1, [1, "n", None])], ids=repr
)
def test_attributes(value: object) -> None:
    if isinstance(value, onnx.TypeProto):
        ours = lite_messages.make_attribute("a", lite_messages.TypeProto.FromString(value.SerializeToString()))
    else:
        ours = lite_messages.make_attribute("a", value)
    theirs = helper.make_attribute("a", value)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
    if not isinstance(value, onnx.TypeProto):
        assert lite_messages.get_attribute_value(ours) == helper.get_attribute_value(theirs)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int8", "bool", "uint64", "complex64", "float64"])
@pytest.mark.parametrize("raw", [True, False])
def test_tensors(dtype: str, raw: bool) -> None:
    array = (np.arange(6) % 2 if dtype == "bool" else np.arange(6)).astype(dtype).reshape(2, 3)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    values = array.tobytes() if raw else array.reshape(-1)
    proto = helper.make_tensor("t", kind, (2, 3), values, raw=raw)
    ours = lite_messages.TensorProto.FromString(proto.SerializeToString())
    np.testing.assert_array_equal(lite_messages.to_array(ours), numpy_helper.to_array(proto))
    tensor = lite_tensors.serde.deserialize_tensor(ours)
    theirs = ir.serde.deserialize_tensor(proto)
    assert (tensor.nbytes, tensor.tobytes(), tensor.shape.numpy()) == (
        theirs.nbytes,
        theirs.tobytes(),
        theirs.shape.numpy(),
    )
    assert tensor.dtype == theirs.dtype


def test_a_tensor_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(16) + np.arange(4, dtype=np.float32).tobytes())
    proto = lite_messages.TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4], data_location=1)
    for key, value in (("location", "w"), ("offset", "16"), ("length", "16")):
        proto.external_data.add(key=key, value=value)
    tensor = lite_tensors.serde.deserialize_tensor(proto)
    assert isinstance(tensor, lite_tensors.ExternalTensor)
    there = lite_tensors.ExternalTensor(tmp_path / "w", tensor.offset, tensor.length, 1, shape=[4], name="t")
    np.testing.assert_array_equal(there.numpy(), np.arange(4, dtype=np.float32))
    short = lite_tensors.ExternalTensor(tmp_path / "w", 20, 16, 1, shape=[4], name="t")
    with pytest.raises(ValueError, match="too short"):
        short.numpy()


def test_compiled_models_open_and_run_without_onnx() -> None:
    code = """
import numpy as np
import ort_rknn as ort
from ort_rknn.examples import EDGES_COMPILED
types = {"tensor(float)": "f4", "tensor(int64)": "i8", "tensor(bool)": "?", "tensor(float16)": "f2"}
for file in (*sys.argv[1:], EDGES_COMPILED):
    session = ort.InferenceSession(file)
    feed = {one.name: np.zeros(one.shape, types[one.type]) for one in session.get_inputs()}
    print(len(session.run(None, feed)))
assert not {"onnx", "onnx_ir"} & set(sys.modules)
"""
    names = ("rk3588.compiled", "rk3588-operators.compiled", "rk3588-types.compiled", "rk3588-int8.compiled")
    done = python(code, *(str(MODELS / name) for name in names))
    assert done.stdout.split() == ["1", "13", "4", "1", "1"], done.stderr


def test_what_needs_them_names_the_extra(tmp_path: Path) -> None:
    session = """
import os
os.environ["ORT_RKNN_CACHE_DIR"] = sys.argv[1]
import ort_rknn as ort
from ort_rknn.examples import EDGES
print(ort.InferenceSession(EDGES, device="simulator").get_providers())
try:
    from ort_rknn_converters import convert
except Exception as error:
    print(type(error).__name__, error)
from ort_rknn.cli import main
main(["convert", EDGES])
"""
    done = python(session, str(tmp_path))
    assert done.returncode == 1
    assert "['CPUExecutionProvider']" in done.stdout, done.stderr
    assert "ExtraMissing converting a model needs the packages onnx and onnx-ir" in done.stdout
    assert done.stderr.count('pip install "ort-rknn[convert]"') == 2
    assert "Traceback" not in done.stderr
