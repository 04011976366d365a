"""Converts a model for several sets of input shapes, several sets of pinned values and several SoCs at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ort_rknn_converters.compiled.bundle import Bundle, Variant, merged
from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.onnx_file.blobs import BytesBlob, FileBlob
from ort_rknn_converters.onnx_file.signature import declared_inputs
from ort_rknn_converters.onnx_file.split_model import SplitModel
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.convert import convert
from ort_rknn_converters.progress import SILENT, Progress

__all__ = ["convert_bundle"]


def convert_bundle(
    model: str | os.PathLike[str] | bytes,
    wanted: Sequence[ConvertOptions],
    *,
    progress: Progress | None = None,
    compile: Any = None,
    known_failures: str | os.PathLike[str] | None = None,
) -> Bundle:
    """Convert a model several times into one file: once for each set of input shapes and values and each SoC.

    Each SoC gets the cut that is best for it. SoCs whose cuts are the same share everything but the compiled code.

    Args:
        model: Path or bytes.
        wanted: The options of each conversion; they differ in ``shapes``, ``values`` and ``target``.
        progress: As for :func:`ort_rknn_converters.pipeline.convert.convert`.
        compile: As there.
        known_failures: As there.

    Raises:
        ModelError: A set leaves an input open, though several sets are given.
        ConvertError: What :func:`ort_rknn_converters.pipeline.convert.convert` raises.
    """
    progress = progress or SILENT
    groups: dict[tuple[Any, ...], list[ConvertOptions]] = {}
    for options in wanted:
        groups.setdefault((_sorted(options.shapes), _sorted(options.values)), []).append(options)
    several_shapes, several_values = (len({key[at] for key in groups}) > 1 for at in (0, 1))
    closed = [_closed(model, group[0], several_shapes) for group in groups.values()]
    variants: list[Variant] = []
    for shapes, group in zip(closed, groups.values(), strict=True):
        values = group[0].values if several_values else {}
        forms = [
            convert(model, options=options, progress=progress, compile=compile, known_failures=known_failures)
            for options in group
        ]
        variants.extend(Variant.of(shapes, form, values) for form in merged(forms))
    needed = any(variant.shapes or variant.values for variant in variants)
    return Bundle(tuple(variants), (lambda: _original(model)) if needed else None)


def _sorted(mapping: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(mapping.items()))


def _closed(
    model: str | os.PathLike[str] | bytes, options: ConvertOptions, required: bool
) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs that the model leaves open, as these options settle them."""
    found = {}
    for value in declared_inputs(model):
        if not value.is_open:
            continue
        dims: tuple[int | str | None, ...] | None = options.shapes.get(value.name, value.dims)
        settled = [options.dims.get(dim, dim) if isinstance(dim, str) else dim for dim in dims or (None,)]
        sizes = tuple(dim for dim in settled if isinstance(dim, int))
        if len(sizes) < len(settled):
            if required:
                raise ModelError(
                    f"several shapes are given, and input {value.name} is still open: give it a shape, too"
                )
            return {}
        found[value.name] = sizes
    return found


def _original(model: str | os.PathLike[str] | bytes) -> SplitModel:
    return SplitModel.of(BytesBlob(model) if isinstance(model, bytes) else FileBlob(os.fspath(model)))
