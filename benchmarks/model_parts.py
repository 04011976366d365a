"""Building blocks of the shaped models: a small graph builder, seeded weights, activations that stay in fp16's range.

Weights are He-initialised; the last layer of every residual branch is damped, so that depth does not add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Share of a residual branch in the sum, so that 50 layers grow the variance by a factor of 4, not of 65,000.
DAMPING = 0.3

# Values of constants up to this many elements are looked at when nodes are placed.
_SMALL = 65536
_weightless: ContextVar[bool] = ContextVar("weightless", default=False)


@contextmanager
def weightless() -> Iterator[None]:
    """Gives models made inside large weights without values: enough to place and to estimate, in milliseconds."""
    token = _weightless.set(True)
    try:
        yield
    finally:
        _weightless.reset(token)


class Net:
    """An ONNX graph under construction. Values are strings; every method that adds a node returns its output."""

    def __init__(self, name: str, *, opset: int = 17, seed: int = 0) -> None:
        self.name = name
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._scope: list[str] = []
        self._taken: dict[str, int] = {}

    def scope(self, name: str) -> Net:
        """``with net.scope("layer1"):`` puts the name in front of all made inside."""
        self._scope.append(name)
        return self

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *_: object) -> None:
        self._scope.pop()

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def const(self, value: Any, name: str = "const", dtype: Any = None) -> str:
        array = np.asarray(value, dtype=dtype)
        full = self._fresh(name)
        self._weights.append(numpy_helper.from_array(np.array(array, order="C"), full))
        return full

    def ints(self, *values: int) -> str:
        return self.const(values, "ints", np.int64)

    def float(self, value: float) -> str:
        return self.const(value, "scalar", np.float32)

    def weight(self, *shape: int, fan_in: int, gain: float = 2.0) -> str:
        if _weightless.get() and np.prod(shape) > _SMALL:
            full = self._fresh("weight")
            tensor = TensorProto(name=full, data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="nowhere")
            self._weights.append(tensor)
            return full
        array = self.rng.standard_normal(shape, dtype=np.float32) * np.float32((gain / fan_in) ** 0.5)
        return self.const(array, "weight")

    def many(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        base = self._fresh(kind)
        names = [base if outputs == 1 else f"{base}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=f"/{base}", **attributes))
        return names

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.many(kind, *inputs, outputs=1, **attributes)[0]

    def model(self) -> onnx.ModelProto:
        """The checked model, with the shapes the standard's inference finds."""
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8, producer_name="benchmarks"
        )
        if not _weightless.get():
            onnx.checker.check_model(model)
        return model

    def _fresh(self, name: str) -> str:
        full = "/".join([*self._scope, name])
        count = self._taken.get(full, 0)
        self._taken[full] = count + 1
        return full if not count else f"{full}_{count}"

    # --- layers -----------------------------------------------------------------------------------------------------

    def conv(
        self,
        x: str,
        c_in: int,
        c_out: int,
        kernel: int | tuple[int, ...] = 1,
        stride: int | tuple[int, ...] = 1,
        pad: int | tuple[int, ...] | None = None,
        groups: int = 1,
        gain: float = 2.0,
    ) -> str:
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        steps = (stride,) * len(size) if isinstance(stride, int) else stride
        border = tuple(k // 2 for k in size) if pad is None else (pad,) * len(size) if isinstance(pad, int) else pad
        fan_in = c_in // groups * int(np.prod(size))
        w = self.weight(c_out, c_in // groups, *size, fan_in=fan_in, gain=gain)
        b = self.const(0.05 * self.rng.standard_normal(c_out), "bias", np.float32)
        return self.op(
            "Conv", x, w, b, kernel_shape=list(size), strides=list(steps), pads=[*border, *border], group=groups
        )

    def linear(self, x: str, c_in: int, c_out: int, *, bias: bool = True, gain: float = 1.0) -> str:
        y = self.op("MatMul", x, self.weight(c_in, c_out, fan_in=c_in, gain=gain))
        if not bias:
            return y
        return self.op("Add", self.const(0.05 * self.rng.standard_normal(c_out), "bias", np.float32), y)

    def silu(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def gelu(self, x: str) -> str:
        """As exporters write it: x * (erf(x / sqrt 2) + 1) * 0.5."""
        e = self.op("Erf", self.op("Div", x, self.float(2**0.5)))
        return self.op("Mul", self.op("Mul", x, self.op("Add", e, self.float(1.0))), self.float(0.5))

    def layer_norm(self, x: str, width: int, *, decomposed: bool = False, axes: int = -1) -> str:
        scale = self.const(1 + 0.1 * self.rng.standard_normal(width), "scale", np.float32)
        bias = self.const(0.1 * self.rng.standard_normal(width), "bias", np.float32)
        if not decomposed:
            return self.op("LayerNormalization", x, scale, bias, axis=axes, epsilon=1e-5)
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[axes]))
        power = self.op("ReduceMean", self.op("Pow", centred, self.float(2.0)), axes=[axes])
        spread = self.op("Sqrt", self.op("Add", power, self.float(1e-5)))
        return self.op("Add", self.op("Mul", self.op("Div", centred, spread), scale), bias)

    def heads(self, x: str, batch: int, length: int, heads: int, width: int) -> str:
        """[batch, length, heads * width] -> [batch, heads, length, width]."""
        split = self.op("Reshape", x, self.ints(batch, length, heads, width))
        return self.op("Transpose", split, perm=[0, 2, 1, 3])

    def attention(self, x: str, batch: int, length: int, width: int, heads: int, mask: str | None = None) -> str:
        head = width // heads
        q, k, v = (self.heads(self.linear(x, width, width), batch, length, heads, head) for _ in range(3))
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.op("Div", scores, self.float(head**0.5))
        if mask is not None:
            scores = self.op("Add", scores, mask)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        joined = self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1, 3]), self.ints(batch, length, width))
        return self.linear(joined, width, width, gain=DAMPING)

    def mlp(self, x: str, width: int, hidden: int) -> str:
        return self.linear(self.gelu(self.linear(x, width, hidden)), hidden, width, gain=DAMPING)

    def pre_norm_block(self, x: str, batch: int, length: int, width: int, heads: int, mask: str | None = None) -> str:
        x = self.op("Add", x, self.attention(self.layer_norm(x, width), batch, length, width, heads, mask))
        return self.op("Add", x, self.mlp(self.layer_norm(x, width), width, 4 * width))
