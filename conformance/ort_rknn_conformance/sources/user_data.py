"""The user's data as feeds: ``.npz``, ``.npy``, images, or a folder of them, checked against the model's inputs.

An array may be one sample, or many: with one more axis than the input it is split along the first, and so it is when
only the first dimension is not the input's and divides evenly into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_conformance.case import CaseError, Feed
from ort_rknn_converters.array_files import read_array, read_arrays
from ort_rknn_converters.calibration_source import Preprocess
from ort_rknn_converters.errors import CalibrationError
from ort_rknn_converters.quantize.images import IMAGE_SUFFIXES, read_image
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import is_file, is_folder

__all__ = ["Data", "Input", "load_data"]

SUFFIXES = (".npz", ".npy", *IMAGE_SUFFIXES)

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@frozen
class Input:
    """A model input as onnxruntime's ``get_inputs()`` describes it.

    Attributes:
        name: Its name.
        type: onnxruntime's type string, e.g. ``tensor(float)``.
        shape: Dimensions; text or ``None`` where they are free.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name}: {_DTYPES.get(self.type, self.type)} [{dims}]"


@frozen
class Data:
    """Samples and where they came from.

    Attributes:
        feeds: One a sample.
        files: The file of each.
    """

    feeds: tuple[Feed, ...]
    files: tuple[Path, ...]


def load_data(path: str | Path, inputs: Sequence[Input], *, limit: int | None = None, preprocess: str = "") -> Data:
    """Read samples.

    Args:
        path: A ``.npz`` of named inputs, a ``.npy`` or an image for a model with one input, or a folder of them, with
            those below it (each file one or more samples, in the order of their names).
        inputs: The model's inputs.
        limit: At most so many samples.
        preprocess: How images become inputs, see :class:`~ort_rknn_converters.calibration_source.Preprocess`.

    Raises:
        CaseError: The data cannot be read, or its names, shapes or dtypes are not the model's.
    """
    path = Path(path)
    if is_folder(path):
        files = sorted(file for file in path.rglob("*") if is_file(file) and file.suffix.lower() in SUFFIXES)
        if not files:
            raise CaseError(f"{path}: no {', '.join(SUFFIXES)} file in this folder")
    elif is_file(path):
        files = [path]
    else:
        raise CaseError(f"{path}: no such file or folder")
    try:
        how = Preprocess.parse(preprocess)
    except CalibrationError as error:
        raise CaseError(str(error)) from error
    feeds: list[Feed] = []
    origins: list[Path] = []
    for file in files:
        found = _split(_read(file, inputs, how), inputs, file)
        feeds.extend(found)
        origins.extend([file] * len(found))
        if limit is not None and len(feeds) >= limit:
            break
    return Data(tuple(feeds[:limit]), tuple(origins[:limit]))


def _expected(inputs: Sequence[Input]) -> str:
    return "expected " + "; ".join(str(item) for item in inputs)


def _image(file: Path, inputs: Sequence[Input], how: Preprocess) -> dict[str, NDArray[Any]]:
    """One image as the model's only input, a batch of one where it wants a batch."""
    if len(inputs) != 1:
        raise CaseError(f"{file}: an image is one input, and the model has {len(inputs)}: use .npz")
    (item,) = inputs
    dims = [dim if isinstance(dim, int) else 0 for dim in item.shape]
    first = len(dims) - 3
    if first in (0, 1):
        upright = how.layout == "nchw" or (how.layout is None and dims[first] in (1, 3))
        channels, *space = (first, first + 1, first + 2) if upright else (first + 2, first, first + 1)
        dims[channels] = dims[channels] or 3
        if 0 in (dims[axis] for axis in space):
            if how.size is None:
                raise CaseError(f"{file}: the model leaves its image's size open: say --preprocess WIDTHxHEIGHT")
            dims[space[0]], dims[space[1]] = how.size[1], how.size[0]
    try:
        pixels = read_image(file, how, tuple(dims))
    except CalibrationError as error:
        raise CaseError(str(error)) from error
    except (OSError, ValueError) as error:
        raise CaseError(f"{file}: not readable as an image ({error})") from error
    return {item.name: pixels[np.newaxis] if first == 1 else pixels}


def _read(file: Path, inputs: Sequence[Input], how: Preprocess) -> dict[str, NDArray[Any]]:
    """The arrays of one file by input name."""
    if file.suffix.lower() in IMAGE_SUFFIXES:
        return _image(file, inputs, how)
    try:
        if file.suffix.lower() != ".npz":
            if len(inputs) != 1:
                raise CaseError(f"{file}: a .npy has no names, and the model has {len(inputs)} inputs: use .npz")
            return _scaled({inputs[0].name: read_array(file)}, inputs, how, file)
        arrays = read_arrays(file)
    except (OSError, ValueError) as error:
        if isinstance(error, CaseError):
            raise
        raise CaseError(f"{file}: not readable as .npy or .npz ({error})") from error
    names = {item.name for item in inputs}
    if set(arrays) != names:
        missing = ", ".join(sorted(names - set(arrays)))
        unknown = ", ".join(sorted(set(arrays) - names))
        parts = [f"missing {missing}"] if missing else []
        parts += [f"unknown {unknown}"] if unknown else []
        raise CaseError(f"{file}: {' and '.join(parts)}: {_expected(inputs)}")
    return _scaled(arrays, inputs, how, file)


def _scaled(
    arrays: dict[str, NDArray[Any]], inputs: Sequence[Input], how: Preprocess, file: Path
) -> dict[str, NDArray[Any]]:
    """Arrays for floating inputs with the mean and deviation that were given, as for calibration."""
    floats = {item.name for item in inputs if item.type in ("tensor(float)", "tensor(float16)", "tensor(double)")}
    try:
        return {
            name: how.of_array(array, f"{file}: {name}") if name in floats else array for name, array in arrays.items()
        }
    except CalibrationError as error:
        raise CaseError(str(error)) from error


def _split(arrays: Mapping[str, NDArray[Any]], inputs: Sequence[Input], file: Path) -> list[Feed]:
    """The samples in one file."""
    columns = {item.name: _samples(arrays[item.name], item, inputs, file) for item in inputs}
    counts = {name: len(samples) for name, samples in columns.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise CaseError(f"{file}: the inputs differ in their number of samples: {said}")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _samples(array: NDArray[Any], item: Input, inputs: Sequence[Input], file: Path) -> list[NDArray[Any]]:
    array = _cast(array, item, inputs, file)
    if _fits(array.shape, item.shape):
        return [np.ascontiguousarray(array)]
    if array.ndim == len(item.shape) + 1 and _fits(array.shape[1:], item.shape):
        return [np.ascontiguousarray(sample) for sample in array]
    batch = item.shape[0] if item.shape else None
    if (
        isinstance(batch, int)
        and batch > 0
        and array.ndim == len(item.shape)
        and array.shape[0] % batch == 0
        and _fits(array.shape[1:], item.shape[1:])
    ):
        return [np.ascontiguousarray(array[at : at + batch]) for at in range(0, array.shape[0], batch)]
    raise CaseError(f"{file}: {item.name} has shape {list(array.shape)}: {_expected(inputs)}")


def _fits(shape: Sequence[int], wanted: Sequence[int | str | None]) -> bool:
    return len(shape) == len(wanted) and all(
        not isinstance(dim, int) or dim == size for size, dim in zip(shape, wanted, strict=True)
    )


def _cast(array: NDArray[Any], item: Input, inputs: Sequence[Input], file: Path) -> NDArray[Any]:
    """The array in the input's dtype; float64 for a float32 input is what numpy gives everybody, so it is taken."""
    name = _DTYPES.get(item.type)
    if name is None:
        raise CaseError(f"{file}: input {item.name} is a {item.type}, which data files cannot hold")
    wanted = np.dtype(name)
    if array.dtype == wanted:
        return array
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        raise CaseError(f"{file}: {item.name} has dtype {array.dtype}: {_expected(inputs)}")
    cast = array.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(cast, array):
        raise CaseError(f"{file}: {item.name} holds values that do not fit: {_expected(inputs)}")
    return cast
