"""Turns the command line of ``ort-rknn convert`` into values of conversion options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.onnx_file.signature import check_dims, declared_inputs
from ort_rknn_converters.pinned_values import pinned_texts, value_sets

__all__ = ["CPU_NODES", "check_values", "listed", "merged", "names", "pairs", "pinned_sets", "valued"]

Value = TypeVar("Value")


def pairs(
    parse: Callable[[str], Value],
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], dict[str, Value]]:
    """A click callback for a repeatable ``NAME=VALUE`` option."""

    def callback(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, Value]:
        found = {}
        for text in texts:
            name, equals, value = text.rpartition("=")
            try:
                if not (name and equals):
                    raise ValueError
                found[name] = parse(value)
            except ValueError:
                raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE") from None
        return found

    return callback


def listed(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, list[tuple[int, ...]]]:
    """A click callback for shapes, of which an input may have several."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for text in texts:
        for name, dims in pairs(_dims)(_, __, (text,)).items():
            found.setdefault(name, []).append(dims)
    return found


def valued(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """A click callback for pinned values, of which an input may have several."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        for name, value in pairs(str)(_, __, (text,)).items():
            try:
                found[name] = found.get(name, ()) + pinned_texts(name, value)
            except UnknownOption as error:
                raise click.BadParameter(str(error)) from None
    return found


def size(_: click.Context, __: click.Parameter, text: str) -> int:
    """A click callback for a size such as ``3G``."""
    from ort_rknn_converters.cache.limit import size_in

    try:
        return size_in(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def names(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> frozenset[str]:
    """A click callback for names, one by one or with commas."""
    return frozenset(name.strip() for text in texts for name in text.split(",") if name.strip())


CPU_NODES = click.option(
    "--cpu-node",
    "--cpu-nodes",
    "cpu_nodes",
    multiple=True,
    callback=names,
    metavar="NAME[,NAME]",
    help="Keep these nodes on the CPU.",
)


def _dims(text: str) -> tuple[int, ...]:
    """``1x3x224x224`` (or with commas); nothing for a scalar."""
    return tuple(int(size) for size in text.replace(",", "x").split("x")) if text else ()


def merged(file: Path | None, fields: dict[str, Any]) -> dict[str, Any]:
    """The file's options under what was given on the command line, above the environment; collections of both together.

    Raises:
        UnknownOption: The file cannot be read, or names an option there is not.
    """
    if file is None:
        return fields
    from ort_rknn_converters.options_file import read_options

    merged = fields | read_options(file)
    context = click.get_current_context()
    general = (ParameterSource.DEFAULT, ParameterSource.ENVIRONMENT)
    for name, value in fields.items():
        if isinstance(value, frozenset):
            merged[name] = value | merged[name]
        elif context.get_parameter_source("timeout" if name == "timeout_s" else name) not in general:
            merged[name] = value
    return merged


def check_values(model: Path, values: dict[str, Any]) -> None:
    """Refuse what would be ignored.

    Raises:
        UnknownOption: Calibration data without quantization, or a dimension that the model does not have.
    """
    if values.get("calibration") is not None and values["precision"] == "fp16":
        raise UnknownOption("calibration data are for precision int8 or w4a16, not fp16: add --int8 or --w4a16")
    if values["dims"]:
        check_dims(values["dims"], declared_inputs(model))


def pinned_sets(model: Path, values: dict[str, Any]) -> tuple[dict[str, str], ...]:
    """The sets of pinned values that the command line or a file of options means.

    Raises:
        UnknownOption: A value does not fit its input, or two inputs have several values and not equally many.
    """
    if not values:
        return ({},)
    texts = {name: given if isinstance(given, tuple) else pinned_texts(name, given) for name, given in values.items()}
    return value_sets(texts, {value.name: value.dims for value in declared_inputs(model)})
