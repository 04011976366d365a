"""Fixes the dimensions of graph inputs: what the NPU runs has no others."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.passes.base import Context, Pass

__all__ = ["StaticShapes"]

_NAMELESS = frozenset({"?", "-1", ""})
"""What exporters write for dimensions that have no name: two of them need not be equal."""


class StaticShapes(Pass):
    """Gives graph inputs the shapes of ``options.shapes`` and symbolic dimensions the values of ``options.dims``.

    A symbol that ``shapes`` gives a value is replaced wherever else it occurs, unless two inputs disagree on it
    (onnxruntime does not hold two inputs to the same value either).
    """

    name = "static-shapes"

    def apply(self, model: ir.Model, ctx: Context) -> tuple[str, ...]:
        """Raises ModelError when an option names no input or contradicts what the model declares."""
        shapes, known = ctx.options.shapes, dict(ctx.options.dims)
        inputs = {value.name or "": value for value in model.graph.inputs}
        unknown = sorted(set(shapes) - set(inputs))
        if unknown:
            raise ModelError(f"no input is called {', '.join(unknown)}. The model's inputs: {', '.join(inputs)}")

        found: dict[str, set[int]] = {}
        for name, wanted in shapes.items():
            for symbol, size in _check(inputs[name], wanted, known).items():
                found.setdefault(symbol, set()).add(size)
        known.update({symbol: sizes.pop() for symbol, sizes in found.items() if len(sizes) == 1})

        changed = []
        for name, value in inputs.items():
            before = onnx_graph.dims(value)
            after = shapes[name] if name in shapes else _replaced(before, known)
            if after is not None and after != before:
                value.shape = ir.Shape(after)
                changed.append(f"input {name} fixed to {_text(after)}")
        if changed or known:
            _replace_everywhere(model, known)
        return tuple(changed)


def _check(value: ir.Value, wanted: tuple[int, ...], known: Mapping[str, int]) -> dict[str, int]:
    """The symbols that ``wanted`` gives a value, after comparing it with what the input declares."""
    declared = onnx_graph.dims(value)
    if declared is None:
        return {}
    message = f"input {value.name}: wanted {_text(wanted)}, but the model declares {_text(declared)}"
    if len(wanted) != len(declared):
        raise ModelError(message)
    symbols: dict[str, int] = {}
    for dim, size in zip(declared, wanted, strict=True):
        if isinstance(dim, int) and dim != size:
            raise ModelError(message)
        if isinstance(dim, str) and dim not in _NAMELESS:
            if known.get(dim, size) != size:
                raise ModelError(f"{message}, and dimension {dim} was given as {known[dim]}")
            if symbols.setdefault(dim, size) != size:
                raise ModelError(f"{message}: dimension {dim} cannot be both {symbols[dim]} and {size}")
    return symbols


def _replaced(
    shape: tuple[int | str | None, ...] | None, known: Mapping[str, int]
) -> tuple[int | str | None, ...] | None:
    if shape is None:
        return None
    return tuple(known.get(dim, dim) if isinstance(dim, str) else dim for dim in shape)


def _replace_everywhere(model: ir.Model, known: Mapping[str, int]) -> None:
    for node in onnx_graph.walk(model.graph):
        for value in node.outputs:
            before = onnx_graph.dims(value)
            after = _replaced(before, known)
            if after is not None and after != before:
                value.shape = ir.Shape(after)


def _text(shape: tuple[int | str | None, ...]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"
