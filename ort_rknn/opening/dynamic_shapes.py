"""Decides how a model with open input shapes runs: pinned, listed, or compiled as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ort_rknn.errors import InvalidOption
from ort_rknn.opening.unmet_names import check_inputs
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.options.table import RknnOptions
    from ort_rknn.shape_keys import ShapeKey
    from ort_rknn_converters.compiled.model import CompiledModel
    from ort_rknn_converters.onnx_file.signature import DeclaredValue
    from ort_rknn_converters.options import ConvertOptions

__all__ = ["CompiledForms", "DynamicShapes", "read_shapes"]

Shapes = Mapping[str, tuple[int, ...]]


@frozen
class DynamicShapes:
    """Way in which a model with open shapes runs.

    Attributes:
        options: Of every conversion; its shapes and dims are pins.
        keys: Names of the inputs whose shapes stay open.
        listed: Shapes to have ready from the start, by the names of ``keys``.
        mode: When a shape that was not listed is compiled: ``background``, ``load`` or ``never``.
        first: The same for those listed.
        limit: Most shapes of the session that are compiled; those listed do not count.
        cache_dir: The cache's folder.
    """

    options: ConvertOptions
    keys: tuple[str, ...]
    listed: tuple[Mapping[str, tuple[int, ...]], ...]
    mode: str
    first: str
    limit: int
    cache_dir: str | None


@frozen
class CompiledForms:
    """Several compiled forms of a model, as they lie in one file.

    Attributes:
        loaders: The open inputs' shapes -> gives the compiled model.
        original: Gives the original ONNX, a blob; ``None`` when it is not there.
        stub: A model with the original inputs and outputs, and no computation.
        refusal: What to say to a feed of other shapes when there is no original.
    """

    loaders: Mapping[ShapeKey, Callable[[], CompiledModel]]
    original: Callable[[], Any] | None
    stub: Any
    refusal: str


def read_shapes(
    model: str | bytes,
    options: RknnOptions,
    convert: ConvertOptions,
    pinned: Callable[[], Mapping[str, tuple[Any, ...]]] | None,
) -> DynamicShapes | ConvertOptions:
    """Decides from its shapes how a model is compiled.

    Args:
        model: Path or content.
        options: The provider options.
        convert: The same for the conversion, pinned dimensions included; without shapes.
        pinned: Gives the inputs' shapes as onnxruntime shows them once its own options have pinned dimensions; ``None``
            when ``convert`` has all pins.

    Returns:
        The options of the one conversion, or how to go about many.

    Raises:
        InvalidOption: Several shapes are listed and do not settle all inputs, or a name is none of the model's.
    """
    from ort_rknn_converters.onnx_file.signature import declared_inputs
    from ort_rknn_converters.shape_sets import shape_sets

    every = declared_inputs(model)
    check_inputs(options, every)
    inputs = [value for value in every if value.is_open]
    sets = shape_sets(options.shapes)
    shown: dict[str, tuple[int, ...]] = {}
    if pinned is not None and any(_is_open(value, sets[0], convert.dims) for value in inputs):
        shown = {
            name: shape for name, shape in pinned().items() if all(isinstance(dim, int) for dim in shape) and shape
        }
    first = {**shown, **sets[0]}
    still_open = tuple(value.name for value in inputs if _is_open(value, first, convert.dims))
    if len(sets) == 1 and options.compile != "background" and not still_open:
        return replace(convert, shapes=first)
    if len(sets) > 1 and still_open:
        raise InvalidOption(
            f"shapes lists several shapes and none for {', '.join(still_open)}; every open input needs one"
        )
    listed = () if still_open else sets
    keys = still_open or tuple(sorted(name for name in options.shapes if any(value.name == name for value in inputs)))
    mode = "background" if options.compile == "auto" else options.compile
    return DynamicShapes(
        options=replace(convert, shapes={name: shape for name, shape in first.items() if name not in keys}),
        keys=keys,
        listed=listed,
        mode=mode if still_open or options.compile == "background" else "never",
        first="load" if options.compile == "auto" else options.compile,
        limit=options.max_shapes,
        cache_dir=options.cache_dir,
    )


def _is_open(value: DeclaredValue, shapes: Shapes, dims: Mapping[str, int]) -> bool:
    """Whether callers still choose a shape after all pins."""
    if value.name in shapes:
        return False
    return value.dims is None or not all(isinstance(dim, int) or dim in dims for dim in value.dims)
