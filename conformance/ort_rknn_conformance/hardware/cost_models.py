"""Small models whose time tells what one kind of operator costs; compiled beforehand, for a board has no toolkit.

``python -m`` this module compiles them anew for one SoC (needs the toolkit); they lie in one archive a SoC.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.util.frozen import frozen

__all__ = ["COST_MODELS", "CostModel", "read_all"]

Array = NDArray[Any]
Node = tuple[str, Sequence[str], Mapping[str, Any]]
DTYPES = ("fp16", "int8")


@frozen
class CostModel:
    """One kind of operator at one size.

    Attributes:
        kind: Of the cost profile.
        shape: For people.
        input: Dimensions of the only input.
        nodes: ``(operator, constants, attributes)``, one after the other.
        constants: By name.
        macs: Multiplications with their additions, of all nodes.
        dtypes: The precisions it is compiled for.
    """

    kind: str
    shape: str
    input: tuple[int, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    macs: int
    dtypes: tuple[str, ...] = DTYPES

    @property
    def name(self) -> str:
        """Also that of its file."""
        return f"{self.kind} {self.shape}".replace(" ", "_").replace(",", "")

    def source(self) -> onnx.ModelProto:
        """The ONNX model."""
        value, made = "x", []
        for number, (op, constants, attributes) in enumerate(self.nodes):
            given = ["x", "x"] if op in ("Add", "Mul") and not constants else [value, *constants]
            if op in ("Add", "Mul") and not constants and number:
                given = [value, "x"]
            value = "y" if number == len(self.nodes) - 1 else f"v{number}"
            made.append(helper.make_node(op, given, [value], f"{op.lower()}_{number}", **attributes))
        graph = helper.make_graph(
            made,
            "cost",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)

    def feed(self) -> Array:
        """Values for the input; always the same."""
        return np.random.default_rng(0).normal(0, 1, self.input).astype(np.float32)


def _pattern(*shape: int) -> Array:
    """Weights of few different numbers, which pack well; no time depends on them."""
    few = np.array([-3, -2, -1, 1, 2, 3, 2, 1], np.float32) / 64
    return np.resize(few, shape)


def _conv(channels: int, made: int, size: int, kernel: int, stride: int) -> CostModel:
    out = size // stride
    node: Node = ("Conv", ["w"], {"strides": [stride] * 2, "pads": [kernel // 2] * 4})
    return CostModel(
        "conv",
        f"{channels} to {made}, {kernel}x{kernel} by {stride}, {size}x{size}",
        (1, channels, size, size),
        (node,),
        {"w": _pattern(made, channels, kernel, kernel)},
        made * out * out * channels * kernel * kernel,
    )


def _depthwise(channels: int, size: int) -> CostModel:
    node: Node = ("Conv", ["w"], {"group": channels, "pads": [1] * 4})
    constants = {"w": _pattern(channels, 1, 3, 3)}
    shape = (1, channels, size, size)
    macs = channels * size * size * 9
    return CostModel("depthwise", f"{channels}, 3x3, {size}x{size}", shape, (node,), constants, macs)


def _matmul(rows: int, inner: int, columns: int) -> CostModel:
    label = f"{rows}x{inner} by {inner}x{columns}"
    node: Node = ("MatMul", ["w"], {})
    constants = {"w": _pattern(inner, columns)}
    return CostModel("matmul", label, (1, rows, inner), (node,), constants, rows * inner * columns)


def _plain(kind: str, label: str, shape: tuple[int, ...], *nodes: Node, **constants: Array) -> CostModel:
    size = "x".join(map(str, shape[1:]))
    return CostModel(kind, f"{label}, {size}", shape, nodes, constants, 0)


def _all() -> Iterator[CostModel]:
    small, middle, large = (1, 16, 20, 20), (1, 64, 40, 40), (1, 64, 80, 80)
    yield _plain("call", "relu", (1, 8, 4, 4), ("Relu", [], {}))
    for channels, made, size, kernel, stride in (
        (16, 16, 20, 3, 1), (64, 64, 40, 1, 1), (128, 64, 80, 3, 1), (128, 128, 80, 3, 2), (384, 256, 40, 1, 1),
        (256, 256, 64, 3, 1), (3, 32, 160, 3, 2),
    ):  # fmt: skip
        yield _conv(channels, made, size, kernel, stride)
    for channels, size in ((32, 40), (128, 80)):
        yield _depthwise(channels, size)
    for rows, inner, columns in ((1, 256, 256), (64, 256, 256), (196, 384, 1536), (512, 512, 512)):
        yield _matmul(rows, inner, columns)
    for shape in (small, middle, large):
        yield _plain("elementwise", "add", shape, ("Add", [], {}))
        yield _plain("activation", "sigmoid", shape, ("Sigmoid", [], {}))
    for rows, columns in ((64, 64), (196, 196), (512, 512)):
        yield _plain("softmax", "rows", (1, rows, columns), ("Softmax", [], {"axis": -1}))
    for rows, columns in ((64, 256), (196, 384)):
        gain = np.ones(columns, np.float32)
        node: Node = ("LayerNormalization", ["gain", "bias"], {"axis": -1})
        yield _plain("norm", "layer", (1, rows, columns), node, gain=gain, bias=gain * 0)
    for shape in (small, large):
        yield _plain("reduce", "mean of rows", shape, ("ReduceMean", [], {"axes": [3]}))
        yield _plain("pool", "max 2x2", shape, ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}))
        yield _plain("transpose", "0 2 3 1", shape, ("Transpose", [], {"perm": [0, 2, 3, 1]}))
        scales = np.array([1, 1, 2, 2], np.float32)
        yield _plain("resize", "nearest 2x", shape, ("Resize", ["", "scales"], {"mode": "nearest"}), scales=scales)
        pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
        yield _plain("pad", "1 around", shape, ("Pad", ["pads"], {}), pads=pads)
        yield _plain(
            "gather", "every other row", shape, ("Gather", ["rows"], {"axis": 2}), rows=np.arange(0, shape[2], 2)
        )


COST_MODELS: tuple[CostModel, ...] = tuple(_all())
"""All of them, the cheap ones of a kind first."""


def _archive(target: str) -> Any:
    return resources.files("ort_rknn_conformance.hardware") / "models" / f"cost-{target}.zip"


def read_all(target: str) -> Iterator[tuple[CostModel, str, bytes]]:
    """Every model that is compiled for a SoC, with its precision and its ``.rknn``.

    Raises:
        FileNotFoundError: None is.
    """
    with _archive(target).open("rb") as file, zipfile.ZipFile(file) as archive:
        known = set(archive.namelist())
        for model in COST_MODELS:
            for dtype in model.dtypes:
                if f"{model.name}-{dtype}.rknn" in known:
                    yield model, dtype, archive.read(f"{model.name}-{dtype}.rknn")


def main(arguments: Sequence[str] | None = None, write: Callable[[str], object] = sys.stderr.write) -> None:
    """Compile them for one SoC; what the compiler refuses is left out and said."""
    from ort_rknn_converters.errors import ConvertError
    from ort_rknn_converters.toolkit.compile import compile_segment
    from ort_rknn_converters.toolkit.request import CompileRequest

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target")
    chosen = parser.parse_args(arguments)
    path = Path(str(_archive(chosen.target)))
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_LZMA) as archive:
        for model in COST_MODELS:
            content = model.source().SerializeToString()
            for dtype in model.dtypes:
                more: dict[str, Any] = {}
                if dtype != "fp16":
                    more = {"precision": dtype, "options": {"dataset": [{"x": model.feed()}]}}
                try:
                    made = compile_segment(CompileRequest(content, chosen.target, **more)).rknn
                except ConvertError as error:
                    write(f"{model.name} {dtype}: left out: {str(error).splitlines()[0]}\n")
                    continue
                archive.writestr(zipfile.ZipInfo(f"{model.name}-{dtype}.rknn"), made, zipfile.ZIP_LZMA)
                write(f"{model.name} {dtype}: {len(made)} bytes\n")
    fresh.replace(path)


if __name__ == "__main__":
    main()
