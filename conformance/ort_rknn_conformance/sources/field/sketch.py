"""A short way to write a model down: constants, random weights and nodes by call, names by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["BOOL", "FLOAT", "INT64", "Made", "Maker", "Sketch"]

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

Made = tuple[onnx.ModelProto, Sequence[Mapping[str, NDArray[Any]]]]
"""A model, and what it is run on."""
Maker = Callable[[], Made]
Declared = Mapping[str, tuple[int, Sequence[int | str | None]]]


class Sketch:
    """A graph in the making.

    Args:
        seed: Of the weights.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def const(self, value: ArrayLike, dtype: Any = np.float32) -> str:
        """A constant."""
        name = f"const_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """A list of whole numbers: axes, a shape."""
        return self.const(values, np.int64)

    def tensor(self, proto: onnx.TensorProto) -> str:
        """A constant of a type that numpy has not."""
        self._constants.append(proto)
        return proto.name

    def weight(self, *shape: int) -> str:
        """Random weights that keep the size of what they are applied to."""
        fan = max(1, int(np.prod(shape[1:])))
        return self.const(self.random.standard_normal(shape) / np.sqrt(fan))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; the name of its output, or the names of its outputs."""
        number = len(self._nodes)
        names = [f"{kind.lower()}_{number}" + (f"_{place}" if outputs > 1 else "") for place in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind}_{number}", **attributes))
        return names[0] if outputs == 1 else names

    def model(self, inputs: Declared, outputs: Declared, results: Sequence[str], *, opset: int = 17) -> onnx.ModelProto:
        """The model; ``results`` are the values that its outputs take, in order."""
        for name, value in zip(outputs, results, strict=True):
            self._nodes.append(helper.make_node("Identity", [value], [name], name=f"give_{name}"))
        given, taken = (
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in side.items()]
            for side in (inputs, outputs)
        )
        graph = helper.make_graph(self._nodes, "field", given, taken, self._constants)
        imports = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 20 else 10)
