"""The models that come with the package for the self-test and the board test: small, generated, for every SoC.

A board has no toolkit, so the compiled files lie in ``models/``; ``python -m`` this module makes them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_conformance.doctor.bundled import CONVOLUTION_NAME, file_name, folder, read_bundled
from ort_rknn_converters.util.frozen import frozen

__all__ = ["CONVOLUTION", "DYNAMIC", "MODELS", "BoardModel", "dynamic_source", "read_dynamic"]

Array = NDArray[Any]

FLOAT, HALF, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL


@frozen
class BoardModel:
    """One of the bundled models.

    Attributes:
        name: Also in its file's name.
        about: What it shows, in a few words.
        source: Makes the ONNX; the weights come from a fixed seed.
        precision: ``fp16`` or ``int8``.
        options: More conversion options.
    """

    name: str
    about: str
    source: Callable[[], onnx.ModelProto]
    precision: str = "fp16"
    options: Mapping[str, Any] = field(default_factory=dict)

    def feeds(self, count: int, seed: int = 0) -> list[dict[str, Array]]:
        """Inputs that suit it."""
        random = np.random.default_rng(seed)
        return [{info.name: _values(info, random) for info in self.source().graph.input} for _ in range(count)]

    def read(self, target: str) -> bytes:
        """The compiled model for a SoC.

        Raises:
            FileNotFoundError: There is none.
        """
        return read_bundled(self.name, target)


def _convolution() -> onnx.ModelProto:
    """``y = relu(conv(x))``, 8 channels of 8 x 8."""
    shape = [1, 8, 8, 8]
    weights = np.random.default_rng(0).normal(0, 0.1, (8, 8, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    return _model(nodes, {"x": (FLOAT, shape)}, {"y": FLOAT}, {"w": weights})


def _operators() -> onnx.ModelProto:
    """One node or a known pattern after the other, each with its own output."""
    random = np.random.default_rng(1)

    def weights(*shape: int) -> Array:
        return random.normal(0, 0.2, shape).astype(np.float32)

    constants = {
        "dense": weights(64, 32),
        "depthwise": weights(8, 1, 3, 3),
        "up": weights(8, 4, 2, 2),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "root": np.array(2**0.5, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "two": np.array(2, np.float32),
        "little": np.array(1e-5, np.float32),
        "gain": 1 + weights(64),
    }
    image: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Sigmoid", ["image"], "sigmoid", {}),
        ("Tanh", ["image"], "tanh", {}),
        ("HardSwish", ["image"], "hard_swish", {}),
        ("MaxPool", ["image"], "max_pool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("GlobalAveragePool", ["image"], "mean", {}),
        ("Resize", ["image", "", "scales"], "resize", {"mode": "nearest"}),
        ("Conv", ["image", "depthwise"], "depthwise_conv", {"group": 8, "pads": [1, 1, 1, 1]}),
        ("ConvTranspose", ["image", "up"], "deconvolution", {"strides": [2, 2]}),
        ("Concat", ["image", "tanh"], "concat", {"axis": 1}),
    ]
    tokens: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("MatMul", ["tokens", "dense"], "matmul", {}),
        ("Softmax", ["tokens"], "softmax", {"axis": -1}),
        ("ReduceMean", ["tokens"], "middle", {"axes": [-1]}),
        ("Sub", ["tokens", "middle"], "centred", {}),
        ("Pow", ["centred", "two"], "squares", {}),
        ("ReduceMean", ["squares"], "variance", {"axes": [-1]}),
        ("Add", ["variance", "little"], "safe", {}),
        ("Sqrt", ["safe"], "deviation", {}),
        ("Div", ["centred", "deviation"], "normal", {}),
        ("Mul", ["normal", "gain"], "layer_norm", {}),
        ("Div", ["tokens", "root"], "scaled", {}),
        ("Erf", ["scaled"], "erf", {}),
        ("Add", ["erf", "one"], "raised", {}),
        ("Mul", ["tokens", "raised"], "doubled", {}),
        ("Mul", ["doubled", "half"], "gelu", {}),
    ]
    inside = {"middle", "centred", "squares", "variance", "safe", "deviation", "normal"}
    inside |= {"scaled", "erf", "raised", "doubled"}
    nodes = [helper.make_node(op, ins, [out], out, **attributes) for op, ins, out, attributes in (*image, *tokens)]
    outputs = {out: FLOAT for _, _, out, _ in (*image, *tokens) if out not in inside}
    return _model(nodes, {"image": (FLOAT, [1, 8, 16, 16]), "tokens": (FLOAT, [1, 16, 64])}, outputs, constants)


def _types() -> onnx.ModelProto:
    """Integers, truth values and half floats in and out; every number is exact in fp16."""
    table = np.random.default_rng(2).permutation(512).astype(np.float32).reshape(32, 16) / 8 - 32
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], "rows"),
        helper.make_node("Cast", ["bias"], ["wide"], "wide", to=FLOAT),
        helper.make_node("Add", ["rows", "wide"], ["sum"], "sum"),
        helper.make_node("ArgMax", ["sum"], ["best"], "best", axis=-1, keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"], "positive"),
        helper.make_node("Add", ["sum", "sum"], ["twice"], "twice"),
        helper.make_node("Cast", ["twice"], ["narrow"], "narrow", to=HALF),
    ]
    inputs = {"ids": (INT64, [1, 8]), "bias": (HALF, [1, 8, 16])}
    outputs = {"sum": FLOAT, "best": INT64, "positive": BOOL, "narrow": HALF}
    return _model(nodes, inputs, outputs, {"table": table, "zero": np.array(0, np.float32)})


def _work() -> onnx.ModelProto:
    """Three convolutions of 32 channels at 112 x 112: 0.7 G multiplications and additions, what a core can do."""
    random = np.random.default_rng(3)
    names = ["image", "a", "b", "c"]
    nodes, constants = [], {}
    for before, after in pairwise(names):
        # few different numbers, so that the file can be packed
        constants[f"w_{after}"] = random.integers(-3, 4, (32, 32, 3, 3)).astype(np.float32) / 64
        nodes.append(helper.make_node("Conv", [before, f"w_{after}"], [f"{after}_"], f"conv_{after}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"{after}_"], [after], f"relu_{after}"))
    return _model(nodes, {"image": (FLOAT, [1, 32, 112, 112])}, {"c": FLOAT}, constants)


CONVOLUTION = BoardModel(CONVOLUTION_NAME, "a convolution", _convolution)
"""The doctor's self-test, and the first of the board test."""

MODELS: tuple[BoardModel, ...] = (
    CONVOLUTION,
    BoardModel("operators", "operators one by one", _operators),
    BoardModel("types", "integers, truth values, half floats", _types),
    BoardModel("int8", "a quantized convolution", _convolution, "int8"),
    BoardModel("work", "0.7 G multiplications and additions", _work),
)
"""What is compiled for each SoC."""

DYNAMIC: tuple[tuple[int, ...], ...] = ((1, 3, 8, 8), (1, 3, 16, 16))
"""Input shapes of the model that was compiled for several."""


def dynamic_source(shape: Sequence[int | str]) -> onnx.ModelProto:
    """The model with several sets of input shapes, at one of them."""
    weights = np.random.default_rng(4).normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["image", "w"], ["features"], "conv", pads=[1, 1, 1, 1])
    return _model([node], {"image": (FLOAT, shape)}, {"features": FLOAT}, {"w": weights})


def read_dynamic(target: str) -> bytes:
    """The bare compiled code with several sets of shapes.

    Raises:
        FileNotFoundError: There is none for this SoC.
    """
    content: bytes = (folder() / f"{target}-dynamic.rknn").read_bytes()
    return content


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, int],
    constants: Mapping[str, Array],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "board_test",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def _values(info: onnx.ValueInfoProto, random: np.random.Generator) -> Array:
    kind = info.type.tensor_type
    shape = [dim.dim_value for dim in kind.shape.dim]
    if kind.elem_type == INT64:
        return random.integers(0, 32, shape)
    if kind.elem_type == HALF:
        return (random.integers(-8, 8, shape) / 8).astype(np.float16)
    return random.normal(0, 1, shape).astype(np.float32)


def main() -> None:
    """Compile them all; needs the toolkit."""
    from ort_rknn_converters import convert
    from ort_rknn_converters.targets import TARGETS
    from ort_rknn_converters.toolkit.compile import compile_segment
    from ort_rknn_converters.toolkit.request import CompileRequest

    models = Path(__file__).parent / "models"
    models.mkdir(exist_ok=True)
    for target in TARGETS.values():
        if not (target.fp16 and target.flatbuffer):
            continue
        for model in MODELS:
            more: dict[str, Any] = dict(model.options)
            if model.precision != "fp16":
                more["calibration"] = model.feeds(16, seed=1)
            compiled = convert(model.source(), target.name, min_gain=0, precision=model.precision, **more)
            (models / file_name(model.name, target.name)).write_bytes(compiled.to_bytes())
        open_shape = dynamic_source([1, 3, "h", "w"]).SerializeToString()
        sets = {"dynamic_input": [[list(shape)] for shape in DYNAMIC]}
        result = compile_segment(CompileRequest(open_shape, target.name, options=sets))
        (models / f"{target.name}-dynamic.rknn").write_bytes(result.rknn)


if __name__ == "__main__":
    main()
