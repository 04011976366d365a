"""The classical failure of int8: an output, or a part of one, that is the same number whatever comes in.

All parts of a Concat share one scale in int8. With boxes in pixels beside scores from 0 to 1 the step of that scale is
several pixels, and every score is rounded to 0. The cure is a split: the parts leave the NPU as outputs of their own,
each with its own scale, and the CPU concatenates them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ort_rknn_converters.onnx_file.tensor_types import fixed_shapes
from ort_rknn_converters.util.frozen import frozen

__all__ = ["ConstantOutput", "find_constant_outputs"]

Array = NDArray[Any]

_PASSED = frozenset({"Transpose", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})


@frozen
class ConstantOutput:
    """An output whose values no longer depend on the input.

    Attributes:
        output: Its name.
        concat: Name of the Concat of which a part went constant; empty when the whole output did.
        part: Name of that part.
        after: Names of the nodes between the Concat and the output: they would bring the parts under one scale again.
    """

    output: str
    concat: str = ""
    part: str = ""
    after: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.concat:
            return (
                f"quantized to int8, {self.part} is constant after the Concat of values of very different ranges (such "
                "as boxes and scores), which share one scale there"
            )
        return f"quantized to int8, output {self.output} is constant, which it is not in ONNX Runtime"


def find_constant_outputs(
    model: onnx.ModelProto, expected: Sequence[Mapping[str, Array]], actual: Sequence[Mapping[str, Array]]
) -> tuple[ConstantOutput, ...]:
    """Find the outputs, and the parts of concatenated outputs, that are constant now and should not be.

    Args:
        model: The segment.
        expected: Per feed, output name -> what ONNX Runtime computes.
        actual: The same as the compiled code computes it.
    """
    found = []
    for output in model.graph.output:
        name = output.name
        wanted = [answer[name] for answer in expected if name in answer]
        got = [answer[name] for answer in actual if name in answer]
        if not wanted or len(wanted) != len(got) or wanted[0].dtype.kind != "f" or wanted[0].shape != got[0].shape:
            continue
        if _constant(got) and not _constant(wanted):
            found.append(ConstantOutput(name))
            continue
        found += _parts(model.graph, name, wanted, got)
    return tuple(found)


def _parts(graph: onnx.GraphProto, name: str, wanted: Sequence[Array], got: Sequence[Array]) -> list[ConstantOutput]:
    """The parts of the Concat that makes an output; values that only move afterwards are found by their order."""
    makers = {value: node for node in graph.node for value in node.output}
    moves = []
    node = makers.get(name)
    while node is not None and node.op_type in _PASSED:
        moves.append(node)
        node = makers.get(node.input[0])
    if node is None or node.op_type != "Concat":
        return []
    shapes = fixed_shapes(graph)
    whole, axis = shapes.get(node.output[0]), next(one.i for one in node.attribute if one.name == "axis")
    sizes = [shapes.get(part) for part in node.input]
    if whole is None or any(shape is None for shape in sizes):
        return []
    # Which part each element of the output comes from, by sending their numbers the same way.
    numbers = np.concatenate([np.full(shape or (), index) for index, shape in enumerate(sizes)], axis=axis)
    for move in reversed(moves):
        if move.op_type == "Transpose":
            order = next((list(one.ints) for one in move.attribute if one.name == "perm"), None)
            numbers = np.transpose(numbers, order)
    numbers = numbers.reshape(wanted[0].shape)
    return [
        ConstantOutput(name, node.name, part, tuple(move.name for move in moves))
        for index, part in enumerate(node.input)
        if _constant([array[numbers == index] for array in got])
        and not _constant([array[numbers == index] for array in wanted])
    ]


def _constant(arrays: Sequence[Array]) -> bool:
    """Whether all elements of all arrays are one number."""
    flat = np.concatenate([np.ravel(array) for array in arrays])
    return flat.size > 1 and bool(np.all(flat == flat[0]))
