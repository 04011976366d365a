"""Random inputs that make sense for a model: by dtype, by shape, and by what the inputs are used for."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ort_rknn_converters.errors import ModelError, RunFailed
from ort_rknn_converters.numerics.reference_run import without_weights
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import QUICK_S, Run, bounded
from ort_rknn_converters.onnx_file.tensor_types import FLOATS, fixed_shapes

__all__ = ["boundary_values", "feeds_for", "finite", "harmless"]

Array = NDArray[Any]

_CHANNELS = (1, 3, 4)  # of images
_INDEXED = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterND": 1, "ScatterElements": 1, "OneHot": 0}

_SAME = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_WHOLE = (TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)
_CATEGORIES = 1 << 20  # elements of a constant that is looked into: more than any vocabulary has (a guess)
_PADDED = 64  # in a padded feed one category in so many is random: a guess


def feeds_for(
    model: onnx.ModelProto, n: int, seed: int = 0, *, weights: Container[str] = ()
) -> tuple[dict[str, Array], ...]:
    """Make ``n`` random feeds.

    Floats: the first feed is uniform in 0 to 1 for what looks like an image (4-D with 1, 3 or 4 channels), else normal
    with deviation 1; the second is normal for all; later ones are normal with deviation 3, then 0.1, and so on. Whole
    numbers: indices inside the axis they select from where that is known, else 0 or 1. Where they are made one-hot, all
    categories, and from the second feed on mostly the last or the first one: short data are padded with those, and
    equal rows add up to more than random ones. Bools: coins.

    Args:
        model: A model whose inputs have static shapes; unknown dimensions are taken as 1.
        n: How many.
        seed: Equal seeds give equal feeds.
        weights: Inputs that are none of the caller's.

    Raises:
        ModelError: An input is no tensor, or of strings.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    bounds, one_hot = _index_bounds(model)
    generator = np.random.default_rng(seed)

    def one(value: onnx.ValueInfoProto, number: int) -> Array:
        bound = bounds.get(value.name, 2)
        array = _array(value, number, bound, generator)
        return _padded(array, number, bound) if value.name in one_hot else array

    inputs = [value for value in model.graph.input if value.name not in constants and value.name not in weights]
    return tuple({value.name: one(value, number) for value in inputs} for number in range(n))


def harmless(tensor: TensorProto) -> TensorProto:
    """A floating tensor of this name and shape, of values no op minds: positive, and small enough to be summed up."""
    values = np.random.default_rng(0).uniform(0.02, 0.2, tuple(tensor.dims)).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)


def _array(value: onnx.ValueInfoProto, number: int, bound: int, generator: np.random.Generator) -> Array:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type in (TensorProto.STRING, TensorProto.UNDEFINED):
        raise ModelError(f"no random values can be made for input {value.name!r}")
    shape = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in kind.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if kind.elem_type in FLOATS:
        image = len(shape) == 4 and (shape[1] in _CHANNELS or shape[3] in _CHANNELS)
        if number == 0 and image:
            return generator.uniform(0, 1, shape).astype(dtype)
        deviation = (1.0, 1.0, 3.0, 0.1)[number % 4]
        return generator.normal(0, deviation, shape).astype(dtype)
    if kind.elem_type == TensorProto.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    return generator.integers(0, max(1, bound), shape).astype(dtype)


def _padded(array: Array, number: int, bound: int) -> Array:
    """Categories with padding behind a few: the last category in odd feeds, the first in even ones, none in feed 0."""
    if number and array.ndim:
        array[..., max(1, array.shape[-1] // _PADDED) :] = bound - 1 if number % 2 else 0
    return array


def _index_bounds(model: onnx.ModelProto) -> tuple[dict[str, int], frozenset[str]]:
    """For each value used as an index directly: how many things it selects from, the least over its uses.

    And those values that are made one-hot.
    """
    shapes = fixed_shapes(model.graph)
    same = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in _SAME}
    small = {tensor.name: tensor for tensor in model.graph.initializer if math.prod(tensor.dims) <= _CATEGORIES}
    bounds: dict[str, int] = {}
    categories: set[str] = set()
    for node in model.graph.node:
        position = _INDEXED.get(node.op_type)
        if node.op_type == "Equal":
            position = int(node.input[0] in small)
        if position is None or len(node.input) <= position:
            continue
        compared = node.op_type in ("Equal", "OneHot")
        size = _categories(node, position, small) if compared else _selected_from(node, shapes)
        index = node.input[position]
        while size is not None and index:
            bounds[index] = min(size, bounds.get(index, size))
            if compared:
                categories.add(index)
            index = same.get(index, "")
    return bounds, frozenset(categories)


def _categories(node: onnx.NodeProto, position: int, small: Mapping[str, TensorProto]) -> int | None:
    """Number of categories of a OneHot, or of a comparison with 0, 1, 2 ... which exporters write instead."""
    other = small.get(node.input[1 - position])
    if other is None or other.data_type not in _WHOLE:
        return None
    values = numpy_helper.to_array(other).ravel()
    if node.op_type == "OneHot":
        return int(values[0]) if values.size == 1 and values[0] > 0 else None
    return values.size if values.size > 1 and np.array_equal(values, np.arange(values.size)) else None


def _selected_from(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int | None:
    shape = shapes.get(node.input[0])
    if not shape:
        return None
    if node.op_type.endswith("ND"):
        return min(shape)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def boundary_values(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Mapping[str, Array]]
) -> tuple[dict[str, Array], ...] | None:
    """The values that tensors inside a model take on some feeds: feeds of the right scale for a part of it.

    Args:
        model: The whole model.
        names: Tensors wanted; inputs of the model may be among them.
        feeds: Inputs of the whole model.

    Returns:
        Per feed, name -> array; ``None`` when ONNX Runtime cannot run the model on these feeds (random numbers are not
        valid inputs of every model), or when a value is not finite.

    Raises:
        RunFailed: It takes too long, or too much memory.
    """
    copy, weights = without_weights(model)
    given = {value.name for value in model.graph.input}
    inside = [name for name in dict.fromkeys(names) if name not in given]
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside)
    found: list[dict[str, Array]] = []

    def compute(run: Run) -> None:
        session = ort.on_cpu(copy.SerializeToString(), ort.quiet_options()) if inside else None
        for feed in feeds:
            run.next_feed()
            values = {name: np.asarray(feed[name]) for name in names if name in given}
            if session is not None:
                values |= dict(zip(inside, session.run(inside, weights | dict(feed), run.options), strict=True))
            found.append(values)

    try:
        bounded(compute, QUICK_S, "the whole model")
    except RunFailed:
        raise
    except Exception:  # onnxruntime raises a class of its own per kind of fault
        return None
    usable = all(isinstance(a, np.ndarray) and finite(a) for values in found for a in values.values())
    return tuple(found) if usable else None


def finite(array: Array) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    return array.dtype.kind not in "f" or math.isfinite(float(np.abs(array).max(initial=0)))
