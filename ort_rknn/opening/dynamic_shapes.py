"""Decides how a model with open input shapes, or several pinned values, runs: listed, or compiled as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn.errors import InvalidOption
from ort_rknn.opening.unmet_names import check_inputs
from ort_rknn.variant_keys import VariantKey, shapes_of, values_of, variant_key
from ort_rknn_converters.util.frozen import frozen, replace

if TYPE_CHECKING:
    from ort_rknn.options.table import RknnOptions
    from ort_rknn_converters.compiled.model import CompiledModel
    from ort_rknn_converters.onnx_file.signature import DeclaredValue
    from ort_rknn_converters.options import ConvertOptions

__all__ = ["CompiledForms", "DynamicShapes", "read_shapes"]

Shapes = Mapping[str, tuple[int, ...]]


@frozen
class DynamicShapes:
    """Way in which a model with open shapes or several pinned values runs.

    Attributes:
        options: Of every conversion; its shapes, dims and values are pins.
        keys: Names of the inputs whose shapes stay open.
        listed: Shapes to have ready from the start, by the names of ``keys``.
        values: Values of inputs of which each set has code of its own; empty where there is at most one.
        mode: When a shape that was not listed is compiled: ``background``, ``load`` or ``never``.
        first: The same for those listed.
        limit: Most shapes of the session that are compiled; those listed do not count.
        cache_dir: The cache's folder.
    """

    options: ConvertOptions
    keys: tuple[str, ...]
    listed: tuple[Mapping[str, tuple[int, ...]], ...]
    values: tuple[Mapping[str, str], ...]
    mode: str
    first: str
    limit: int
    cache_dir: str | None

    def listed_keys(self) -> tuple[VariantKey, ...]:
        """Variants to have ready from the start: each set of shapes with each set of values."""
        sets = [{name: shapes[name] for name in self.keys} for shapes in self.listed]
        return tuple(variant_key(shapes, values) for shapes in sets for values in self.values or ({},))

    def options_of(self, key: VariantKey) -> ConvertOptions:
        """The options of a variant's conversion."""
        shapes, values = {**self.options.shapes, **shapes_of(key)}, {**self.options.values, **values_of(key)}
        return replace(self.options, shapes=shapes, values=values)


@frozen
class CompiledForms:
    """Several compiled forms of a model, as they lie in one file.

    Attributes:
        loaders: Shapes of open inputs, and values of pinned ones -> gives the compiled model.
        original: Gives the original ONNX, a blob; ``None`` when it is not there.
        stub: A model with the original inputs and outputs, and no computation.
        refusal: What to say to a feed of other shapes or values when there is no original.
    """

    loaders: Mapping[VariantKey, Callable[[], CompiledModel]]
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
        convert: The same for the conversion, pinned dimensions included; without shapes and pinned values.
        pinned: Gives the inputs' shapes as onnxruntime shows them once its own options have pinned dimensions; ``None``
            when ``convert`` has all pins.

    Returns:
        The options of the one conversion, or how to go about many.

    Raises:
        InvalidOption: Several shapes are listed and do not settle all inputs, a name is none of the model's, or a value
            does not fit its input.
    """
    from ort_rknn_converters.onnx_file.signature import declared_inputs
    from ort_rknn_converters.shape_sets import shape_sets

    every = declared_inputs(model)
    check_inputs(options, every)
    pins = _value_sets(options, every)
    values = pins if len(pins) > 1 else ()
    convert = convert if values else replace(convert, values=pins[0])
    inputs = [value for value in every if value.is_open]
    sets = shape_sets(options.shapes)
    shown: dict[str, tuple[int, ...]] = {}
    if pinned is not None and any(_is_open(value, sets[0], convert.dims) for value in inputs):
        shown = {
            name: shape for name, shape in pinned().items() if all(isinstance(dim, int) for dim in shape) and shape
        }
    first = {**shown, **sets[0]}
    still_open = tuple(value.name for value in inputs if _is_open(value, first, convert.dims))
    if len(sets) == 1 and not values and options.compile != "background" and not still_open:
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
        values=values,
        mode=mode if still_open or options.compile == "background" else "never",
        first="load" if options.compile == "auto" else options.compile,
        limit=options.max_shapes,
        cache_dir=options.cache_dir,
    )


def _value_sets(options: RknnOptions, inputs: Sequence[DeclaredValue]) -> tuple[dict[str, str], ...]:
    """Sets of pinned values; a name in the user's configuration file that this model lacks is for other models."""
    from ort_rknn_converters.errors import UnknownOption
    from ort_rknn_converters.pinned_values import value_sets

    dims = {value.name: value.dims for value in inputs}
    try:
        return value_sets({name: texts for name, texts in options.values.items() if name in dims}, dims)
    except UnknownOption as error:
        raise InvalidOption(f"the option {error}") from None


def _is_open(value: DeclaredValue, shapes: Shapes, dims: Mapping[str, int]) -> bool:
    """Whether callers still choose a shape after all pins."""
    if value.name in shapes:
        return False
    return value.dims is None or not all(isinstance(dim, int) or dim in dims for dim in value.dims)
