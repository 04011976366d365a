"""The simulator at int8 against the vendor's own: the same compiled file, the same inputs, differences in quanta."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn.devices.program import Program
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn.errors import DeviceError
from ort_rknn_converters.numerics.int8_rounding import round_to_int8
from ort_rknn_converters.pipeline.convert import convert
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.rknn_format.values import Quantization, RknnFile, RknnNode, RknnSubgraph, RknnTensor
from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult, compile_segment
from tests.helpers.quantized import digit_samples, digits
from tests.helpers.segment_models import cnn, segment_of


def weight(*shape: int) -> np.ndarray:
    return (
        np.random.default_rng(len(shape) + sum(shape)).normal(size=shape) * 1.4 / np.sqrt(np.prod(shape[1:]))
    ).astype(np.float32)


def network(body: str, outputs: str, **weights: np.ndarray) -> onnx.ModelProto:
    graph = parse_graph(f"g (float[1,3,32,32] x) => (float[{outputs}] y) {{ {body} }}")
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def residual() -> onnx.ModelProto:
    body = """a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1) b = Relu (a) c = Conv <pads = [1, 1, 1, 1]> (b, w2)
        d = Add (c, b) e = Relu (d) f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e) y = Conv (f, w3)"""
    weights = {"w1": weight(16, 3, 3, 3), "b1": weight(16) / 10, "w2": weight(16, 16, 3, 3), "w3": weight(8, 16, 1, 1)}
    return network(body, "1,8,16,16", **weights)


def inverted_residual() -> onnx.ModelProto:
    body = """a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1) b = Clip (a, low, high)
        c = Conv <pads = [1, 1, 1, 1], group = 16> (b, w2) d = Clip (c, low, high) e = Conv (d, w3) f = Conv (e, w4)
        g = Clip (f, low, high) h = Conv (g, w5) i = Add (e, h) j = GlobalAveragePool (i) k = Flatten (j)
        y = Gemm <transB = 1> (k, w6)"""
    shapes = ((16, 3, 3, 3), (16, 1, 3, 3), (8, 16, 1, 1), (48, 8, 1, 1), (8, 48, 1, 1), (10, 8))
    weights = {f"w{number}": weight(*shape) for number, shape in enumerate(shapes, 1)}
    return network(body, "1,10", low=np.float32(0), high=np.float32(6), **weights)


def swish() -> onnx.ModelProto:
    body = """a = Conv <pads = [1, 1, 1, 1]> (x, w1) s = Sigmoid (a) b = Mul (a, s)
        c = Conv <pads = [1, 1, 1, 1]> (b, w2) t = Sigmoid (c) d = Mul (c, t)
        e = Concat <axis = 1> (b, d) y = Conv <strides = [2, 2]> (e, w3)"""
    return network(body, "1,8,16,16", w1=weight(8, 3, 3, 3), w2=weight(8, 8, 3, 3), w3=weight(8, 16, 2, 2))


def digit_logits() -> onnx.ModelProto:
    """The digits without their Softmax: the output is int8."""
    model = onnx.ModelProto()
    model.CopyFrom(digits())
    del model.graph.node[-1]
    model.graph.output[0].name = "logits"
    return model


IMAGES = np.random.default_rng(2).uniform(0, 1, (20, 1, 3, 32, 32)).astype(np.float32)


@dataclass
class Both:
    """The vendor's answers and ours, feed by feed."""

    theirs: list[np.ndarray]
    ours: list[np.ndarray]
    file: RknnFile


def both(
    model: onnx.ModelProto, data: dict[str, np.ndarray], folder: Path, soc: str = "rk3588", **options: Any
) -> Both:
    kept: list[tuple[CompileRequest, CompileResult]] = []

    def compile(request: CompileRequest, **options: Any) -> CompileResult:
        kept.append((request, compile_segment(request, **options)))
        return kept[-1][1]

    fields: dict[str, Any] = {"precision": "int8", "calibration": data, "verify_feeds": 8, "min_gain": 0}
    compiled = convert(model, soc, compile=compile, known_failures=folder, **fields | options)
    assert compiled.plan.npu_share == 1
    ((request, result),) = kept
    lane = Program(compiled, SimulatorDevice(target=soc)).open_lane(0)
    ours = [lane.run(0, list(feed.values()))[0] for feed in request.feeds]
    theirs = [next(iter(answer.values())) for answer in result.outputs]
    return Both(theirs, [array for array in ours if array is not None], reader.read_rknn(result.rknn))


@pytest.mark.toolkit
class TestAgainstTheVendors:
    @pytest.mark.parametrize(
        ("model", "data"),
        [
            (digit_logits, {"image": digit_samples(50)}),
            (residual, {"x": IMAGES}),
            (inverted_residual, {"x": IMAGES}),
            (swish, {"x": IMAGES}),
        ],
    )
    def test_within_two_quanta(self, model: Any, data: dict[str, np.ndarray], tmp_path: Path) -> None:
        found = both(model(), data, tmp_path)
        (output,) = found.file.outputs
        assert output.quantization is not None
        (scale,) = output.quantization.scale
        quanta = np.rint(np.abs(np.stack(found.ours) - np.stack(found.theirs)) / scale)
        assert quanta.max() <= 2
        assert np.mean(quanta == 0) > 0.5

    @pytest.mark.parametrize(
        "options", [{"quantized_method": "layer"}, {"quantized_algorithm": "kl", "quantized_method": "layer"}]
    )
    @pytest.mark.parametrize("model", [residual, swish])
    def test_one_scale_a_weight(self, model: Any, options: dict[str, str], tmp_path: Path) -> None:
        found = both(model(), {"x": IMAGES}, tmp_path, **options)
        quantization = found.file.outputs[0].quantization
        assert quantization is not None
        quanta = np.rint(np.abs(np.stack(found.ours) - np.stack(found.theirs)) / quantization.scale[0])
        assert quanta.max() <= 1
        assert np.mean(quanta == 0) > 0.98

    def test_a_float_output_after_int8_layers(self, tmp_path: Path) -> None:
        found = both(digits(), {"image": digit_samples(50)}, tmp_path)
        ours, theirs = np.stack(found.ours), np.stack(found.theirs)
        assert found.file.outputs[0].device_dtype == "float16"
        np.testing.assert_allclose(ours, theirs, atol=0.01)
        assert np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)) < 2e-3

    @pytest.mark.parametrize("method", ["channel", "group"])
    @pytest.mark.parametrize(
        ("model", "data"),
        [
            (digits, {"image": digit_samples(20)}),
            (residual, {"x": IMAGES}),
            (inverted_residual, {"x": IMAGES}),
            (swish, {"x": IMAGES}),
        ],
    )
    def test_four_bit_weights(self, model: Any, data: dict[str, np.ndarray], tmp_path: Path, method: str) -> None:
        found = both(model(), data, tmp_path, "rk3576", precision="w4a16", quantized_method=method)
        assert "int4" in {tensor.dtype for tensor in found.file.tensors.values()}
        ours, theirs = np.stack(found.ours), np.stack(found.theirs)
        # Measured: 0 to 1.5e-4, where four bits cost 0.1 to 0.3.
        assert np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)) < 5e-4


def tensor(
    name: str, dtype: str = "int8", kind: str = "internal", scale: float | None = 0.5, zero: int = 3
) -> RknnTensor:
    grid = None if scale is None else Quantization((scale,), (zero,))
    return RknnTensor(name, dtype, (1, 4), kind, "", 4, grid)


def file_of(tensors: list[RknnTensor], nodes: list[RknnNode]) -> RknnFile:
    graph = RknnSubgraph(tuple(tensors), tuple(nodes), ("x",), ("y",))
    return RknnFile(6, 0, "rk3588", "", "", "", "", "", False, (), (), (graph,))


def layer(op: str, inputs: str, output: str) -> RknnNode:
    return RknnNode(op, op, "NPU", tuple(inputs.split()), (output,))


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    [result] = onnxruntime.InferenceSession(model.SerializeToString(), options).run(["y"], {"x": x})
    return np.asarray(result)


def small(body: str) -> onnx.ModelProto:
    graph = parse_graph(f"g (float[1,4] x) => (float[1,4] y) {{ {body} }}")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


X = np.array([[0.3, -0.9, 100, 1.26]], np.float32)


class TestRounding:
    def test_input_and_output_lie_on_their_grids(self) -> None:
        tensors = [tensor("x", kind="input", scale=0.5, zero=0), tensor("y", kind="output", scale=0.3, zero=0)]
        rounded = round_to_int8(small("y = Neg (x)"), file_of(tensors, [layer("Neg", "x", "y"), layer("In", "", "x")]))
        np.testing.assert_allclose(run(rounded, X), [[-0.6, 0.9, -38.4, -1.5]], rtol=1e-6)

    def test_what_was_fused_away_is_not_rounded(self) -> None:
        tensors = [tensor("y", kind="output", scale=0.25, zero=0)]
        rounded = round_to_int8(small("a = Neg (x) y = Relu (a)"), file_of(tensors, [layer("NegRelu", "x", "y")]))
        np.testing.assert_allclose(run(rounded, -X), [[0.25, 0, 31.75, 1.25]])

    def test_a_fused_layer_called_after_its_beginning(self) -> None:
        tensors = [tensor("a_sw", scale=0.25, zero=-128), tensor("y", kind="output", dtype="float32", scale=None)]
        nodes = [layer("NegRelu", "x", "a_sw"), layer("Neg", "a_sw", "y")]
        rounded = round_to_int8(small("a = Neg (x) b = Relu (a) y = Neg (b)"), file_of(tensors, nodes))
        # Were it taken for the value before the Relu, all would be zero or less there already.
        np.testing.assert_allclose(run(rounded, -X), [[-0.25, 0, -63.75, -1.25]])

    def test_a_layer_reads_a_value_in_the_form_it_was_converted_to(self) -> None:
        tensors = [
            tensor("a", dtype="float16", scale=None),
            tensor("a__int8", scale=0.5, zero=0),
            tensor("b", dtype="float32", scale=None),
            tensor("c", dtype="float32", scale=None),
            tensor("y", dtype="float32", scale=None),
        ]
        nodes = [
            layer("Neg", "x", "a"),
            layer("exDataConvert", "a", "a__int8"),
            layer("Abs", "a__int8", "b"),
            layer("Abs", "a", "c"),
            layer("Sub", "b c", "y"),
        ]
        body = "a = Neg (x) b = Abs (a) c = Abs (a) y = Sub (b, c)"
        x = np.array([[0.5, 1.2, -2.1, 3]], np.float32)
        np.testing.assert_allclose(
            run(round_to_int8(small(body), file_of(tensors, nodes)), x), [[0, -0.2, -0.1, 0]], atol=2e-3
        )


def test_without_the_file_there_are_no_scales() -> None:
    with pytest.raises(DeviceError, match="no compiled code for rk3588"):
        SimulatorDevice().open(segment_of(cnn(), precision="int8"))


def test_floats_of_the_model_decide() -> None:
    """Whole numbers are never put on a grid, whatever the file calls them."""
    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = file_of([tensor("y", kind="output", scale=0.3)], [layer("ArgMax", "x", "y")])
    assert run(round_to_int8(model, file), X).item() == 2
