"""A small compiled model with one of everything, made by hand: no toolkit, no partitioner."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.steps import cpu_step, npu_step
from ort_rknn_converters.compiled.stub_model import make_stub
from ort_rknn_converters.onnx_file.blobs import BytesBlob
from ort_rknn_converters.partition.plan import CPU, NPU, NodePlacement, Plan, Segment
from ort_rknn_converters.tensor_info import TensorInfo

LONG_VALUE = "é\n" * 20_000
"""A metadata value of 40,000 characters: class names of big models are as long."""

_RANDOM = np.random.default_rng(0)
_WEIGHTS = {
    "w": _RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "b": _RANDOM.normal(size=(4,)).astype(np.float32),
    "k": np.float32([2.0]),
    "scale": _RANDOM.normal(size=(4, 1, 1)).astype(np.float32),
    "fixed": np.arange(3, dtype=np.int64),
}
_IMAGE = "float[1,4,8,8]"
_IF = f"""
    q = If <then_branch = yes () => ({_IMAGE} r) {{ r = Add (s, k) }},
            else_branch = no () => ({_IMAGE} r) {{ r = Mul (s, k) }}> (flag)
"""
_INPUTS = "float[1,3,8,8] x, bool[1] flag"
_OUTPUTS = f"{_IMAGE} y, double[1,4,8,8] z, int64[3] fixed, bool[1] flag"


def part(text: str, *weights: str) -> onnx.ModelProto:
    """A standalone model from a graph in ONNX's textual form and the named weights."""
    graph = parse_graph(text)
    graph.initializer.extend(numpy_helper.from_array(_WEIGHTS[name], name) for name in weights)
    for number, node in enumerate(graph.node):
        node.name = f"{graph.name}_{number}"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def original() -> onnx.ModelProto:
    """The whole model: two parts the NPU could do, an ``If``, a constant output and one passed through."""
    model = part(
        f"whole ({_INPUTS}) => ({_OUTPUTS}) {{ c = Conv <pads = [1, 1, 1, 1]> (x, w, b) m = Relu (c) s = Sign (m) {_IF}"
        " y = Mul (q, scale) z = Cast <to = 11> (y) }",
        *_WEIGHTS,
    )
    model.producer_name, model.producer_version = "trainer", "1.2"
    model.domain, model.model_version, model.doc_string = "ai.test", 7, "a model"
    model.graph.doc_string = "a graph"
    model.graph.input[0].doc_string = "an image"
    for key, value in (("names", LONG_VALUE), ("stride", "32")):
        model.metadata_props.add(key=key, value=value)
    return model


def sample(targets: tuple[str, ...] = ("rk3588",)) -> CompiledModel:
    """The compiled form of :func:`original`; its code is a stand-in of random bytes."""
    stub = make_stub(original())
    parts = {
        "npu_0": part(
            f"a (float[1,3,8,8] x) => ({_IMAGE} m) {{ c = Conv <pads=[1,1,1,1]> (x, w, b) m = Relu (c) }}", "w", "b"
        ),
        "cpu_0": part(f"b ({_IMAGE} m, bool[1] flag) => ({_IMAGE} q) {{ s = Sign (m) {_IF} }}", "k"),
        "npu_1": part(f"c ({_IMAGE} q) => ({_IMAGE} y) {{ y = Mul (q, scale) }}", "scale"),
        "cpu_1": part(f"d ({_IMAGE} y) => (double[1,4,8,8] z, int64[3] fixed) {{ z = Cast <to = 11> (y) }}", "fixed"),
    }
    nodes, segments = [], []
    for name, model in parts.items():
        on_npu = name.startswith("npu")
        nodes += [
            NodePlacement(
                n.name, n.op_type, NPU if on_npu else CPU, "" if on_npu else "a reason", name if on_npu else None
            )
            for n in model.graph.node
        ]
        if on_npu:
            names = tuple(n.name for n in model.graph.node)
            segments.append(
                Segment(name, names, _tensors(model.graph.input), _tensors(model.graph.output), 1e-4, 0.1, 2.0)
            )
    plan = Plan("rk3588", "fp16", tuple(nodes), tuple(segments), ("a note",))
    by_name = {segment.name: segment for segment in segments}
    steps = tuple(
        cpu_step(name, model, stub)
        if name.startswith("cpu")
        else npu_step(
            by_name[name],
            code={target: BytesBlob(_RANDOM.bytes(1000)) for target in targets},
            model=model,
            precision="fp16",
            toolkit_version="2.5.0",
        )
        for name, model in parts.items()
    )
    return CompiledModel(
        stub=BytesBlob(stub.SerializeToString(deterministic=True)),
        steps=steps,
        plan=plan,
        targets=targets,
        toolkit_version="2.5.0",
        passes=("something was folded",),
    )


def _tensors(values: list[onnx.ValueInfoProto]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            value.name,
            f"tensor({TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()})",
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def contexts(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The EPContext nodes."""
    return [node for node in model.graph.node if node.op_type == "EPContext"]


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """A node's attributes as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Set or replace one attribute."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
