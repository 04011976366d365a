"""The stub shows through a real onnxruntime session what the original shows."""

from __future__ import annotations

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, TypeProto, helper
from onnx.parser import parse_graph

from ort_rknn_converters.compiled.stub_model import make_stub, note_pinned, pin
from ort_rknn_converters.errors import ModelError
from tests.helpers.compiled_models import original
from tests.helpers.versions import needs_onnxruntime

_OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]


def model(text: str) -> onnx.ModelProto:
    return helper.make_model(parse_graph(text), opset_imports=_OPSETS, ir_version=10)


def one_node(node: onnx.NodeProto, inputs: dict[str, TypeProto], output: TypeProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_value_info(name, kind) for name, kind in inputs.items()],
        [helper.make_value_info("y", output)],
    )
    return helper.make_model(graph, opset_imports=_OPSETS, ir_version=10)


def tensor(elem: int, shape: list[int | str | None] | None) -> TypeProto:
    return helper.make_tensor_type_proto(elem, shape)


def map_type(key: int) -> TypeProto:
    kind = TypeProto()
    kind.map_type.key_type = key
    kind.map_type.value_type.CopyFrom(tensor(TensorProto.FLOAT, []))
    return kind


def seq(kind: TypeProto) -> TypeProto:
    return helper.make_sequence_type_proto(kind)


def optional(kind: TypeProto) -> TypeProto:
    return helper.make_optional_type_proto(kind)


_DTYPES = [
    "FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "BOOL", "STRING", "INT4", "UINT4", "INT8", "INT16", "INT32", "INT64",
    "UINT8", "UINT16", "UINT32", "UINT64", "FLOAT8E4M3FN", "FLOAT8E5M2",
]  # fmt: skip
_SHAPES: list[list[int | str | None] | None] = [[2, 3], ["N", 3], [None, 3], ["N", None, "C", 1], [], None, [0]]
_F = TensorProto.FLOAT


def cases() -> dict[str, onnx.ModelProto]:
    found = {}
    for name in _DTYPES:
        kind = tensor(TensorProto.DataType.Value(name), ["N", 3])
        if name.endswith("INT4"):
            node, given = (
                helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DataType.Value(name)),
                tensor(_F, ["N", 3]),
            )
        else:
            node, given = helper.make_node("Identity", ["x"], ["y"]), kind
        found[name.lower()] = one_node(node, {"x": given}, kind)
    for shape in _SHAPES:
        found[f"shape {shape}"] = one_node(
            helper.make_node("Identity", ["x"], ["y"]), {"x": tensor(_F, shape)}, tensor(_F, shape)
        )
        found[f"undeclared {shape}"] = one_node(
            helper.make_node("Shape", ["x"], ["y"]), {"x": tensor(_F, shape)}, tensor(TensorProto.INT64, None)
        )
        found[f"undeclared result {shape}"] = one_node(
            helper.make_node("Relu", ["x"], ["y"]), {"x": tensor(_F, shape)}, tensor(_F, None)
        )
    split = helper.make_node("SplitToSequence", ["x"], ["y"], axis=0)
    found["sequence"] = one_node(split, {"x": tensor(_F, ["N", 2])}, seq(tensor(_F, None)))
    same = helper.make_node("Identity", ["x"], ["y"])
    for name, kind in {
        "sequence in": seq(tensor(TensorProto.INT64, ["a", 2])),
        "sequence of strings": seq(tensor(TensorProto.STRING, None)),
        "optional tensor": optional(tensor(_F, [2])),
        "optional sequence": optional(seq(tensor(_F, [2]))),
    }.items():
        found[name] = one_node(same, {"x": kind}, kind)
    cast = helper.make_node("CastMap", ["x"], ["y"], domain="ai.onnx.ml", map_form="DENSE")
    found["map in"] = one_node(cast, {"x": map_type(TensorProto.INT64)}, tensor(_F, [1, None]))
    zip_int = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[3, 4])
    found["maps of ints"] = one_node(zip_int, {"x": tensor(_F, ["N", 2])}, seq(map_type(TensorProto.INT64)))
    zip_str = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])
    found["maps of strings"] = one_node(zip_str, {"x": tensor(_F, ["N", 2])}, seq(map_type(TensorProto.STRING)))
    found["everything"] = original()
    found["inferred"] = model(
        "g (float[2,3,4] x, float[N,5] u) => (float[a,b] y, float[M,5] z) <int64[1] i = {0}, int64[1] r = {12}>"
        " { s = Shape (x) b0 = Gather (s, i) t = Concat <axis = 0> (b0, r) y = Reshape (x, t) z = Relu (u) }"
    )
    found["passed through"] = model("g (float[N] x, float[2] v) => (float[N] x, float[2] y) { y = Relu (v) }")
    found["constant output"] = model(
        "g (float[N] x) => (float[2] k, float[N] y) <float[2] k = {1, 2}> { y = Relu (x) }"
    )
    found["no input"] = model("g () => (float[2] y) <float[2] k = {1, 2}> { y = Relu (k) }")
    found["unused input"] = model("g (float[2] x, string[M, N] unused) => (float[2] y) { y = Relu (x) }")
    weights = model("g (float[N,2] x, float[2] w) => (float[N,2] y) <float[2] w = {1, 2}> { y = Mul (x, w) }")
    found["overridable"] = weights
    old = onnx.ModelProto()
    old.CopyFrom(weights)
    old.ir_version = 3
    del old.opset_import[:]
    old.opset_import.add(domain="", version=7)
    found["constants of IR 3"] = old
    return found


CASES = cases()
to_4_bits = needs_onnxruntime("1.23", "it casts to 4 bits")


def outside(data: bytes, level: ort.GraphOptimizationLevel) -> dict[str, object]:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    session = ort.InferenceSession(data, options)
    found: dict[str, object] = {
        kind: [(a.name, a.type, a.shape) for a in getattr(session, f"get_{kind}")()]
        for kind in ("inputs", "outputs", "overridable_initializers")
    }
    meta = session.get_modelmeta()
    for name in ("producer_name", "graph_name", "domain", "description", "graph_description", "version"):
        found[name] = getattr(meta, name)
    return found | {"custom_metadata_map": meta.custom_metadata_map}


def _has_no_shape(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=to_4_bits) if name.endswith("int4") else name for name in CASES]
)
def test_a_session_of_the_shell_looks_like_one_of_the_model(name: str) -> None:
    data = CASES[name].SerializeToString()
    stub = make_stub(CASES[name], source=data)
    if not any(_has_no_shape(value) for value in (*stub.graph.input, *stub.graph.output)):
        onnx.checker.check_model(stub)  # it insists on declared shapes, which onnxruntime does not
    level = ort.GraphOptimizationLevel
    shown = outside(stub.SerializeToString(), level.ORT_DISABLE_ALL)
    assert shown == outside(data, level.ORT_ENABLE_ALL)
    again = make_stub(stub)
    assert again == stub


def test_the_shell_has_no_weights() -> None:
    assert len(make_stub(original()).SerializeToString()) < len(original().SerializeToString())
    assert not {"w", "b"} & {tensor.name for tensor in make_stub(original()).graph.initializer}


def test_a_model_onnxruntime_cannot_load() -> None:
    broken = model("g (float[2] x) => (float[N] y) { y = NoSuchOp (x) }")
    with pytest.raises(ModelError, match="NoSuchOp"):
        make_stub(broken, source=broken.SerializeToString())


def test_a_type_no_operator_gives() -> None:
    graph = helper.make_graph([], "g", [], [helper.make_value_info("y", map_type(TensorProto.INT64))])
    with pytest.raises(ModelError, match="map_type"):
        make_stub(helper.make_model(graph))


def test_pinned_dimensions_show_in_the_outputs() -> None:
    outside = "g (float[N,2] x) => (float[Q,2] y, float[N,2] z, float[2] w)"
    inside = (
        "{ y = Relu (x)  z = Neg (x)  first = Constant <value_ints = [0]> ()  w = ReduceMax <keepdims = 0> (x, first) }"
    )
    made = model(f"{outside} {inside}")
    stub = make_stub(made, source=made.SerializeToString())
    note_pinned(stub, made.SerializeToString(), {"N": 3})
    other = onnx.ModelProto.FromString(stub.SerializeToString())
    pin(stub, {"N": 3})
    pin(other, {"N": 4})
    assert [_dims(value) for value in stub.graph.output] == [[3, 2], [3, 2], [2]]
    assert [_dims(value) for value in other.graph.output] == [["Q", 2], [4, 2], [2]], "noted for other sizes"


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
