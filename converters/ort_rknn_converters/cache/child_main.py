"""Runs in a child process: converts one model into the cache, at low priority, and dies with its parent.

Called with a folder that holds ``job.json``; the answer is ``result.json`` beside it. A process, because a conversion
is Python for the most part: in a thread of the program it would take turns with the program's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ort_rknn_converters.cache import store
from ort_rknn_converters.errors import FROZEN, ConvertError, ToolkitFailed, freeze
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.toolkit.worker.parent_death import end_with_parent
from ort_rknn_converters.util.own_files import read_own, write_own
from ort_rknn_converters.util.plain_data import (
    ANYTHING,
    COUNT,
    MOST_BYTES,
    TEXT,
    by_name,
    check,
    maybe,
    parse_json,
    record,
    rows,
)

__all__ = ["ANSWER", "JOB", "PATH", "RESULT", "describe", "main"]

JOB, RESULT, PATH = "job.json", "result.json", "path.json"
_JOB = record(
    {
        "model": maybe(TEXT),
        "options": by_name(ANYTHING),
        "cache_dir": maybe(TEXT),
        "parent": COUNT,
    }
)
ANSWER = record({}, {"failure": FROZEN})
"""Form of the answer."""

NICENESS = 19
"""Of the conversion and the compiler: the program goes first. The least there is; a guess that it should be."""


def describe(model: str | bytes, options: ConvertOptions, cache_dir: str | None, folder: Path) -> None:
    """Write a job into ``folder``.

    Args:
        model: Path or bytes.
        options: How to convert.
        cache_dir: The cache's folder, as for :func:`ort_rknn_converters.cache.store.load_or_convert`.
        folder: The job's own; it exists.

    Raises:
        OSError: There is no room.
    """
    if isinstance(model, bytes):
        (folder / "model.onnx").write_bytes(model)
    values = options.plain()
    if isinstance(options.calibration, tuple):
        values["calibration"] = [_saved(sample, folder, number) for number, sample in enumerate(options.calibration)]
    job = {
        "model": None if isinstance(model, bytes) else str(Path(model).absolute()),
        "options": values,
        "cache_dir": None if cache_dir is None else str(cache_dir),
        "parent": os.getpid(),
    }
    write_own(folder / JOB, json.dumps(job))


def _saved(sample: Mapping[str, Any], folder: Path, number: int) -> dict[str, str]:
    """A calibration sample as files, input name -> file."""
    import numpy as np

    files = {}
    for position, (name, array) in enumerate(sample.items()):
        files[name] = f"sample_{number}_{position}.npy"
        np.save(folder / files[name], np.asarray(array), allow_pickle=False)
    return files


def _options(values: dict[str, Any], folder: Path) -> ConvertOptions:
    """The options of a job.

    Raises:
        ConvertError: They make no sense.
        OSError, ValueError: A calibration sample cannot be read.
    """
    if isinstance(values.get("calibration"), list):
        from ort_rknn_converters.array_files import read_array

        values["calibration"] = [
            {name: read_array(folder / Path(file).name) for name, file in sample.items()}
            for sample in check(values["calibration"], rows(by_name(TEXT)))
        ]
    return ConvertOptions.of(**values)


def main(folder: str) -> None:
    """Do the job in ``folder``."""
    directory = Path(folder)
    job = parse_json(read_own(directory / JOB, MOST_BYTES), _JOB)
    end_with_parent(job["parent"])
    os.nice(NICENESS)
    model = job["model"] or (directory / "model.onnx").read_bytes()
    answer: dict[str, Any] = {}
    try:
        made = store.load_or_convert(model, _options(job["options"], directory), cache_dir=job["cache_dir"])
        if made.provisional:  # which is not in the cache
            answer["failure"] = freeze(ToolkitFailed(made.provisional, kind="killed"))
    except ConvertError as error:
        answer["failure"] = freeze(error)
    except Exception as error:  # a defect of ours; the parent's model runs on the CPU and says why
        answer["failure"] = freeze(ConvertError(f"{type(error).__name__}: {error}"))
    new = directory / f"{RESULT}.new"
    new.write_text(json.dumps(answer), encoding="utf-8")
    new.rename(directory / RESULT)
