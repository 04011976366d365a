"""Calibration data: real inputs on which the compiler learns the range of every tensor it quantizes.

A source is a folder of ``.npy``, ``.npz`` or image files, one such file, a ``.txt`` that lists such files as those of
rknn-toolkit2 do, or arrays in memory; a model's inputs decide what a sample must look like.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ort_rknn_converters.array_files import read_array, read_arrays
from ort_rknn_converters.calibration_source import Array, Preprocess, calibration_source
from ort_rknn_converters.errors import CalibrationError
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.quantize.images import IMAGE_SUFFIXES, read_image
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import blocks_of_open, is_file, open_regular, read_regular

__all__ = ["Calibration", "InputSpec", "spread"]

Content = TypeVar("Content")

_ARRAYS = (".npy", ".npz")
_LIST = ".txt"
_MOST_LIST = 1 << 26  # bytes of a list of files; a guess: half a million names


@frozen
class InputSpec:
    """Type and shape that a model's input takes.

    Attributes:
        name: Its name.
        dtype: Element type; floating samples are cast to it.
        dims: Its fixed shape.
    """

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {list(self.dims)}"


class Calibration:
    """A source of samples.

    Args:
        source: Path of a folder, file or list of files, samples, one mapping of stacked arrays, or one array.
        preprocess: How images become inputs, see :class:`~ort_rknn_converters.calibration_source.Preprocess`.
        limit: How many samples are used at most, evenly spaced over all; default: all.

    Raises:
        CalibrationError: The source is nothing of that.
    """

    def __init__(self, source: Any, preprocess: str = "", limit: int | None = None) -> None:
        self.source = calibration_source(source)
        self.preprocess = Preprocess.parse(preprocess)
        self.limit = limit

    @classmethod
    def of(cls, options: ConvertOptions) -> Calibration | None:
        """Returns the calibration data that options name, or ``None`` where they name none. No file is read."""
        if options.calibration is None:
            return None
        return cls(options.calibration, options.preprocess, options.calibration_limit)

    def digest(self) -> str:
        """SHA-256 of the samples' content: equal data give equal text, wherever they lie.

        Raises:
            CalibrationError: There is no such file or folder.
        """
        digest = hashlib.sha256()
        if isinstance(self.source, str):
            for file in (file for row in self._rows() for file in row):
                digest.update(file.suffix.lower().encode() + b"\0" + _read(file, _digest))
            return digest.hexdigest()
        for sample in self.source:
            for name in sorted(sample):
                array = np.ascontiguousarray(sample[name])
                digest.update(f"{name}\0{array.dtype.str}{array.shape}\0".encode() + array.tobytes())
        return digest.hexdigest()

    def samples(self, inputs: Sequence[InputSpec]) -> tuple[dict[str, Array], ...]:
        """The samples as a model takes them.

        Args:
            inputs: What the model takes.

        Raises:
            CalibrationError: No samples, or samples of another shape or under other names; the message says what is
                expected.
        """
        if isinstance(self.source, str):
            blocks = self._blocks(inputs)
        else:
            blocks = (("sample", one, self.preprocess) for one in self.source)
        found = [one for origin, block, how in blocks for one in split(block, inputs, origin, how)]
        if not found:
            raise CalibrationError(f"the calibration data {self._where()} are empty. {_expected(inputs)}")
        return tuple(found[index] for index in spread(len(found), self.limit))

    def _where(self) -> str:
        return self.source if isinstance(self.source, str) else "given"

    def _rows(self) -> list[tuple[Path, ...]]:
        """The files of each sample; only a list may have several, one for each input."""
        assert isinstance(self.source, str)
        path = Path(self.source)
        if is_file(path):
            rows = _listed(path) if path.suffix.lower() == _LIST else [(path,)]
            return [rows[index] for index in spread(len(rows), self.limit)]
        if not path.is_dir():
            raise CalibrationError(f"there are no calibration data: {path} does not exist")
        known = (*_ARRAYS, *IMAGE_SUFFIXES)
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in known)
        if not files:
            raise CalibrationError(f"the calibration folder {path} is empty: it has no file of {', '.join(known)}")
        return [(files[index],) for index in spread(len(files), self.limit)]

    def _blocks(self, inputs: Sequence[InputSpec]) -> Iterator[tuple[str, Mapping[str, Array], Preprocess | None]]:
        """Files, arrays in them, and what is still to be done with these; only as many files as are wanted are read."""
        for row in self._rows():
            origin = " ".join(map(str, row))
            if len(row) == 1 and row[0].suffix.lower() == ".npz":
                yield origin, _read(row[0], read_arrays), self.preprocess
            elif len(row) == len(inputs):
                yield origin, {spec.name: self._array(file, spec) for file, spec in zip(row, inputs, strict=True)}, None
            else:
                raise CalibrationError(
                    f"{origin}: the model has {len(inputs)} inputs, so a sample is an .npz file of arrays named as "
                    f"these, or a line of a {_LIST} with a file for each. {_expected(inputs)}"
                )

    def _array(self, file: Path, spec: InputSpec) -> Array:
        if file.suffix.lower() == ".npy":
            array = _read(file, read_array)
            return self.preprocess.of_array(array, str(file)) if spec.dtype.kind == "f" else array
        if file.suffix.lower() in IMAGE_SUFFIXES:
            return _read(file, lambda file: read_image(file, self.preprocess, spec.dims))
        raise CalibrationError(f"{file} is neither .npy nor .npz nor an image")


def _read(file: Path, how: Callable[[Path], Content]) -> Content:
    """Reads a file by the function ``how``."""
    try:
        return how(file)
    except CalibrationError:
        raise
    except OSError as error:
        raise CalibrationError(f"{file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever libraries raise for a damaged file: EOFError, BadZipFile, zlib.error ...
        if file.suffix.lower() in _ARRAYS:
            raise CalibrationError(f"{file} is not a whole file of numpy's save or savez, or has no numbers") from error
        raise CalibrationError(f"{file} cannot be read: {error}") from error


def _digest(file: Path) -> bytes:
    """SHA-256 of a file, whose content is never all in memory."""
    found = hashlib.sha256()
    with open_regular(file) as stream:
        for block in blocks_of_open(stream.fileno()):
            found.update(block)
    return found.digest()


def _listed(file: Path) -> list[tuple[Path, ...]]:
    """The rows of a list: files, relative to the list's folder or to the current one."""
    try:
        lines = read_regular(file, _MOST_LIST).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{file} cannot be read as a list of files: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            rows.append(tuple(_there(Path(word), file, number) for word in _words(line.strip(), file)))
    if not rows:
        raise CalibrationError(f"the calibration list {file} is empty: each line is the file of a sample")
    return rows


def _words(line: str, file: Path) -> list[str]:
    """The files of a line, apart by blanks as with rknn-toolkit2; names with blanks stand alone or in quotes."""
    words = line.split()
    if len(words) == 1 or _found(Path(line), file):
        return [line]
    if '"' not in line and "'" not in line:
        return words
    try:
        return shlex.split(line)
    except ValueError:  # an apostrophe in a name
        return words


def _found(wanted: Path, file: Path) -> Path | None:
    return next((path for path in (file.parent / wanted, wanted) if is_file(path)), None)


def _there(wanted: Path, file: Path, number: int) -> Path:
    if path := _found(wanted, file):
        return path
    raise CalibrationError(
        f"{file}, line {number}: {wanted} does not exist (names with blanks stand in a line of their own or in quotes)"
    )


def split(
    block: Mapping[str, Array], inputs: Sequence[InputSpec], origin: str, preprocess: Preprocess | None = None
) -> Iterator[dict[str, Array]]:
    """The samples in one mapping of arrays, which may have a leading sample axis, or lack the batch axis.

    Args:
        block: Input name -> array; the name of a model's only input may be empty.
        inputs: What the model takes.
        origin: What the error message calls it.
        preprocess: What is done with those for floating inputs.

    Raises:
        CalibrationError: Other names, shapes that fit in no way, or values of another kind than the input's.
    """
    if set(block) == {""} and len(inputs) == 1:
        block = {inputs[0].name: block[""]}
    names = {spec.name for spec in inputs}
    if set(block) != names:
        raise CalibrationError(f"{origin} has {', '.join(sorted(block)) or 'nothing'}. {_expected(inputs)}")
    stacks = {}
    for spec in inputs:
        stack = _stacked(np.asarray(block[spec.name]), spec.dims)
        if stack is None:
            shape = list(np.shape(block[spec.name]))
            raise CalibrationError(f"{origin}: {spec.name} has shape {shape}. {_expected(inputs)}")
        if stack.dtype.kind not in "biuf" or (stack.dtype.kind == "f" and not np.isfinite(stack).all()):
            raise CalibrationError(f"{origin}: {spec.name} has values that are no finite numbers")
        stacks[spec.name] = _as_kind(stack, spec, f"{origin}: {spec.name}", preprocess or Preprocess())
    counts = {len(stack) for stack in stacks.values()}
    if len(counts) > 1:
        told = ", ".join(f"{len(stack)} of {name}" for name, stack in stacks.items())
        raise CalibrationError(f"{origin} has different numbers of samples: {told}")
    for number in range(counts.pop()):
        yield {spec.name: stacks[spec.name][number].astype(spec.dtype, copy=False) for spec in inputs}


def _as_kind(stack: Array, spec: InputSpec, what: str, preprocess: Preprocess) -> Array:
    """Values of the input's kind, preprocessed where they are floats.

    Raises:
        CalibrationError: Raw pixels for floats without a word of what becomes of them, or fractions for whole numbers.
    """
    if spec.dtype.kind != "f":
        if stack.dtype.kind == "f" and (stack != np.trunc(stack)).any():
            raise CalibrationError(f"{what} has fractions, and the input takes {spec.dtype}")
        return stack
    if stack.dtype.kind == "u" and stack.dtype.itemsize <= 2 and (preprocess.mean or preprocess.std) is None:
        raise CalibrationError(
            f"{what} has {stack.dtype} values, and the input takes {spec.dtype}. Say how pixels become its values, e.g."
            " --preprocess mean=0,std=255 (or mean=0,std=1 for those that are taken as they are), or give its own"
            " floats"
        )
    return preprocess.of_array(stack, what)


def _stacked(array: Array, dims: tuple[int, ...]) -> Array | None:
    """The array as [samples, *dims], or ``None``."""
    if array.shape == dims:
        return array[np.newaxis]
    if array.shape[1:] == dims and array.ndim == len(dims) + 1:
        return array
    if not dims:
        return None
    if array.shape == dims[1:] and dims[0] == 1:
        return array[np.newaxis, np.newaxis]
    if array.ndim == len(dims) and array.shape[1:] == dims[1:] and dims[0] and len(array) % dims[0] == 0:
        return array.reshape(-1, *dims)
    return None


def _expected(inputs: Sequence[InputSpec]) -> str:
    listed = "; ".join(map(str, inputs))
    return f"Expected for each sample: {listed} (a leading sample axis is allowed)"


def spread(count: int, limit: int | None) -> list[int]:
    """Positions of at most ``limit`` of ``count`` things, evenly spaced: files are often sorted by class."""
    if limit is None or count <= limit:
        return list(range(count))
    return [index * count // limit for index in range(limit)]
