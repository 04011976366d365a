"""Models and data for the tests of quantization: the trained digits network, and small nets that are QDQ already."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"


@cache
def digits() -> onnx.ModelProto:
    """The network of ``examples/digits``: three Conv with normalization and Relu, pooling, Gemm, Softmax."""
    return onnx.load(DIGITS)


@cache
def _split() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training images, test images and labels, as ``examples/digits/data.py`` divides them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images.astype(np.float32) / 16)[:, np.newaxis]
    order = np.random.default_rng(7).permutation(len(images))
    return images[order[360:]], images[order[:360]], bunch.target[order[:360]]


def digit_samples(count: int) -> np.ndarray:
    """Training images, float32 [count, 1, 8, 8]."""
    return _split()[0][:count]


def digit_tests(count: int = 360) -> tuple[np.ndarray, np.ndarray]:
    """Images the network has not seen, float32 [count, 1, 8, 8], and their labels."""
    return _split()[1][:count], _split()[2][:count]


def qdq(dtype: type[np.generic] = np.uint8) -> onnx.ModelProto:
    """Two Conv with Relu whose activations are quantized as ``dtype``, whose weights as int8, one scale a channel."""
    random = np.random.default_rng(5)
    zero = 0 if dtype == np.int8 else 128
    constants: dict[str, np.ndarray] = {"zero": np.array(zero, dtype)}
    nodes = []

    def pair(name: str, scale: float) -> str:
        constants[f"{name}.scale"] = np.array(scale, np.float32)
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}.scale", "zero"], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.scale", "zero"], [f"{name}.dq"]))
        return f"{name}.dq"

    value = pair("x", 0.025)
    for number, (inputs, outputs) in enumerate(((3, 8), (8, 8))):
        weight = f"w{number}"
        constants[weight] = random.integers(-127, 128, (outputs, inputs, 3, 3)).astype(np.int8)
        constants[f"{weight}.scale"] = random.uniform(0.002, 0.004, outputs).astype(np.float32)
        constants[f"{weight}.zero"] = np.zeros(outputs, np.int8)
        nodes.append(
            helper.make_node(
                "DequantizeLinear", [weight, f"{weight}.scale", f"{weight}.zero"], [f"{weight}.dq"], axis=0
            )
        )
        nodes.append(helper.make_node("Conv", [value, f"{weight}.dq"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        value = pair(f"r{number}", 0.04)
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 16, 16])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def by_onnxruntime(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]], how: str, **options: object
) -> onnx.ModelProto:
    """The model as onnxruntime's quantizer writes it: ``QDQ``, ``QOperator`` or ``dynamic``."""
    import tempfile

    from onnxruntime import quantization

    class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "quantized.onnx"
        if how == "dynamic":
            quantization.quantize_dynamic(model, file, **options)
        else:
            form = quantization.QuantFormat[how]
            quantization.quantize_static(model, file, Samples(), quant_format=form, **options)
        return onnx.load(file)
