"""Labels of the user's data, and how often a classifier's answer is the right one: by CPU onnxruntime and by us."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_conformance.case import CaseError
from ort_rknn_converters.array_files import read_array
from ort_rknn_converters.util.own_files import read_regular

__all__ = ["FOLDERS", "accuracy", "read_labels"]

FOLDERS = "folders"
"""Instead of a file: the folder a sample lies in is its class."""

_MOST = 1 << 26  # bytes of a file of labels; a guess: ImageNet's has 2 MB


def read_labels(source: str, files: Sequence[Path], data: Path | None = None) -> tuple[int, ...]:
    """The class of each sample.

    Args:
        source: A ``.npy`` of whole numbers; a text file with one number a line, in the order of the samples, or with
            lines of a file's name and a number; or ``folders``: the folders' names are the classes, as numbers or in
            the order of the alphabet.
        files: The file each sample came from.
        data: The folder or file of all samples: what lies directly in it lies in no folder of a class.

    Raises:
        CaseError: The labels cannot be read, or are not as many as the samples.
    """
    if source == FOLDERS:
        return _by_folder(files, data)
    path = Path(source)
    try:
        if path.suffix.lower() == ".npy":
            array = read_array(path)
            if array.dtype.kind not in "iu":
                raise CaseError(f"{path}: labels are whole numbers, not {array.dtype}")
            return _fitting([int(number) for number in array.ravel()], len(files), path)
        lines = [line.strip() for line in read_regular(path, _MOST).decode("utf-8").splitlines() if line.strip()]
    except CaseError:
        raise
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: labels cannot be read ({error})") from error
    rows = [re.split(r"[\s,;]+", line) for line in lines]
    try:
        numbers = [int(row[-1]) for row in rows]
    except ValueError:
        raise CaseError(f"{path}: each line is a number, or a file's name and a number") from None
    if all(len(row) == 1 for row in rows):
        return _fitting(numbers, len(files), path)
    known = {Path(row[0]).name: number for row, number in zip(rows, numbers, strict=True)}
    missing = [file.name for file in files if file.name not in known]
    if missing:
        raise CaseError(f"{path}: no label for {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    return tuple(known[file.name] for file in files)


def _by_folder(files: Sequence[Path], data: Path | None) -> tuple[int, ...]:
    root = None if data is None else data.absolute()
    flat = [file for file in files if root is not None and file.absolute().parent in (root, root.parent)]
    if flat:
        raise CaseError(
            f"--labels folders: {flat[0].name} lies in no folder of a class. Give the folder that holds one folder for"
            " each class, or the labels as a file"
        )
    names = [file.parent.name for file in files]
    if all(name.isdigit() for name in names):
        return tuple(int(name) for name in names)
    above = {file.parent.parent for file in files}
    if len(above) > 1:
        raise CaseError(f"--labels folders: the classes lie in several folders, {', '.join(map(str, sorted(above)))}")
    order = sorted({folder.name for folder in above.pop().iterdir() if folder.is_dir()}) if files else []
    return tuple(order.index(name) for name in names)


def _fitting(labels: list[int], samples: int, path: Path) -> tuple[int, ...]:
    if len(labels) < samples:
        raise CaseError(f"{path}: {len(labels)} labels for {samples} samples")
    return tuple(labels[:samples])


def accuracy(
    expected: Sequence[Sequence[Any]], actual: Sequence[Sequence[Any]], labels: Sequence[int]
) -> dict[str, float]:
    """Shares of right answers: ``cpu_top1`` and ``top1``, and with ten classes or more ``cpu_top5`` and ``top5``.

    Args:
        expected: CPU onnxruntime's outputs, per sample.
        actual: Ours.
        labels: The right class of each sample.

    Raises:
        CaseError: No output is one row of classes, or a label is beyond its end.
    """
    place = next((number for number, value in enumerate(expected[0]) if _is_row(value)), None)
    if place is None:
        raise CaseError("labels need an output that is one row of classes per sample")
    classes = int(np.asarray(expected[0][place]).shape[-1])
    if max(labels) >= classes or min(labels) < 0:
        raise CaseError(f"the labels go from {min(labels)} to {max(labels)}, the model has {classes} classes, from 0")
    found = {}
    for k in (1, 5) if classes >= 10 else (1,):
        for name, rows in (("cpu_top", expected), ("top", actual)):
            hits = [label in _best(row[place], k) for row, label in zip(rows, labels, strict=True)]
            found[f"{name}{k}"] = sum(hits) / len(hits)
    return found


def _is_row(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind == "f" and array.ndim > 0 and array.shape[-1] > 1 and array.size == array.shape[-1]


def _best(value: Any, k: int) -> NDArray[Any]:
    scores = np.asarray(value, np.float64).ravel()
    best = np.argsort(-scores, kind="stable")[:k]  # NaN comes last
    return best[~np.isnan(scores[best])]
