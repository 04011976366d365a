"""A user's own model, with the user's data or random feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from ort_rknn_conformance.case import Case, CaseError, Feed, one_line
from ort_rknn_conformance.sources.labels import read_labels
from ort_rknn_conformance.sources.user_data import Input, load_data
from ort_rknn_converters.compiled.bare_rknn import load_bare
from ort_rknn_converters.compiled.bundle import Bundle
from ort_rknn_converters.compiled.model import CompiledModel, is_compiled
from ort_rknn_converters.errors import ConvertError
from ort_rknn_converters.numerics.random_inputs import feeds_for
from ort_rknn_converters.onnx_file.protobuf_wire import is_bundle
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import is_file, open_regular

__all__ = ["MadeFor", "case", "made_for"]


@frozen
class MadeFor:
    """Purpose of a compiled model.

    Attributes:
        precision: Of its NPU parts.
        targets: SoCs it has code for.
    """

    precision: str
    targets: tuple[str, ...]


def made_for(model: str | Path) -> MadeFor | None:
    """Returns what a compiled model, or a bare ``.rknn``, was made for; ``None`` for anything else.

    Raises:
        CaseError: It cannot be read.
    """
    path = Path(model)
    if not is_file(path):
        return None
    try:
        with open_regular(path) as file:
            bare = file.read(4) == b"RKNN"
        if bare:
            compiled = load_bare(path)
        elif not is_compiled(str(path)):
            return None
        else:
            compiled = Bundle.load(path).variants[0].load() if is_bundle(path) else CompiledModel.load(path)
        targets = Bundle.load(path).targets if not bare and is_bundle(path) else compiled.targets
    except ConvertError as error:
        raise CaseError(f"{model}: {one_line(error)}") from error
    except OSError as error:
        raise CaseError(f"{model}: {error.strerror or error}") from error
    return MadeFor(compiled.plan.precision, targets)


def _check_readable(model: Path) -> None:
    try:
        open_regular(model).close()
    except FileNotFoundError:
        raise CaseError(f"{model}: no such file") from None
    except OSError as error:
        raise CaseError(f"{model} cannot be read: {error.strerror or error}") from error


def case(
    model: str | Path,
    *,
    data: str | Path | None = None,
    preprocess: str = "",
    labels: str | None = None,
    reference: str | Path | None = None,
    samples: int | None = None,
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
) -> Case:
    """Make the case.

    Args:
        model: The ONNX file, or a compiled model with ``reference``.
        data: A ``.npz``, ``.npy``, image or folder; random feeds without it.
        preprocess: How images become inputs.
        labels: The classes of the samples, see :func:`~ort_rknn_conformance.sources.labels.read_labels`.
        reference: The ONNX file that CPU onnxruntime runs instead: the original of a compiled model.
        samples: How many feeds: all of the data, or 4 random ones, when ``None``.
        seed: For the random feeds.
        dims: Sizes of symbolic dimensions of random feeds.

    Raises:
        CaseError: The model or the data cannot be used.
    """
    model = Path(model)
    _check_readable(model)
    compiled = is_compiled(str(model))
    if compiled and reference is None:
        raise CaseError(f"{model}: a compiled model; name the ONNX file it was made from with --reference")
    original = Path(reference) if reference is not None else model
    _check_readable(original)
    inputs = _inputs(original)
    known: tuple[int, ...] = ()
    if data is not None:
        loaded = load_data(data, inputs, limit=samples, preprocess=preprocess)
        feeds = loaded.feeds
        known = read_labels(labels, loaded.files, Path(data)) if labels is not None else ()
    elif labels is not None:
        raise CaseError("--labels are for the samples of --data")
    else:
        feeds = _random_feeds(original, samples if samples is not None else 4, seed, dims or {})
    return Case(
        model.name,
        str(model),
        tuple(feeds),
        str(original) if reference is not None else None,
        {} if compiled else _open_shapes(inputs, feeds),
        known,
    )


def _inputs(model: Path) -> list[Input]:
    """The model's inputs, asked from onnxruntime itself."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CaseError(f"{model}: {one_line(error)}") from error
    return [Input(item.name, item.type, tuple(item.shape)) for item in session.get_inputs()]


def _open_shapes(inputs: Sequence[Input], feeds: Sequence[Feed]) -> dict[str, tuple[int, ...]]:
    """The feeds' own shapes of inputs with free dimensions, where all samples agree: compiled code has fixed shapes."""
    found = {}
    for item in inputs:
        shapes = {np.shape(feed[item.name]) for feed in feeds}
        if len(shapes) == 1 and not all(isinstance(dim, int) for dim in item.shape):
            found[item.name] = shapes.pop()
    return found


def _random_feeds(model: Path, samples: int, seed: int, dims: Mapping[str, int]) -> tuple[Feed, ...]:
    try:
        proto = onnx.load(model, load_external_data=False)
        for item in proto.graph.input:
            for dim in item.type.tensor_type.shape.dim:
                if dim.dim_param in dims:
                    dim.dim_value = dims[dim.dim_param]
        return feeds_for(proto, samples, seed)
    except (ConvertError, ValueError) as error:
        raise CaseError(f"{model}: no random feeds for it ({one_line(error)}); give --data") from error
