"""Takes inputs for constants where the user says their values: shapes and branches that hang on them become known."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import Context, Pass
from ort_rknn_converters.pinned_values import pinned_array

__all__ = ["PinnedValues"]


class PinnedValues(Pass):
    """The inputs stay, and nothing reads them. A session compares what it is fed with the values said."""

    name = "pinned-values"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Raises ModelError when an option names no input, or a value does not fit it."""
        inputs = {value.name or "": value for value in model.graph.inputs}
        unknown = sorted(set(ctx.options.values) - set(inputs))
        if unknown:
            raise ModelError(
                f"values: no input is called {', '.join(unknown)}. The model's inputs: {', '.join(inputs)}"
            )
        for name, text in ctx.options.values.items():
            value = inputs[name]
            if value.dtype is None or not isinstance(value.type, ir.TensorType):
                raise ModelError(f"values: input {name} is no tensor of numbers")
            array = _shaped(value, pinned_array(text, value.dtype.numpy()))
            constant = onnx_graph.initializer(ctx.name(f"{name}/value"), ir.tensor(array, dtype=value.dtype))
            model.graph.register_initializer(constant)
            value.replace_all_uses_with(constant, replace_graph_outputs=False)
        return tuple(f"input {name} is taken to be {text}" for name, text in ctx.options.values.items())


def _shaped(value: ir.Value, array: np.ndarray) -> np.ndarray:
    """One number for all elements of an input; else as many as it has, where that is known."""
    shape = onnx_graph.static_shape(value)
    if shape is None:
        rank = None if value.shape is None else len(value.shape)
        return array.reshape((1,) * rank) if array.size == 1 and rank is not None else array
    if array.size == 1:
        return np.full(shape, array.reshape(())[()], array.dtype)
    if array.shape != shape:
        raise ModelError(f"values: input {value.name} has shape {list(shape)}, and the value given {list(array.shape)}")
    return array
