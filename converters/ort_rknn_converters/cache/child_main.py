"""Runs in a child process: converts one model into the cache, at low priority, and dies with its parent.

Called with a folder that holds ``job.pickle``; the answer is ``result.json`` beside it. A process, because a conversion
is Python for the most part: in a thread of the program it would take turns with the program's own.
"""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

from ort_rknn_converters.cache import store
from ort_rknn_converters.errors import ConvertError, ToolkitFailed, freeze
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.toolkit.worker.parent_death import end_with_parent

__all__ = ["JOB", "RESULT", "describe", "main"]

JOB, RESULT = "job.pickle", "result.json"
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
    path = None if isinstance(model, bytes) else str(Path(model).absolute())
    (folder / JOB).write_bytes(pickle.dumps((path, options, cache_dir, os.getpid())))


def main(folder: str) -> None:
    """Do the job in ``folder``."""
    directory = Path(folder)
    path, options, cache_dir, parent = pickle.loads((directory / JOB).read_bytes())
    end_with_parent(parent)
    os.nice(NICENESS)
    model = path or (directory / "model.onnx").read_bytes()
    answer: dict[str, Any] = {}
    try:
        made = store.load_or_convert(model, options, cache_dir=cache_dir)
        if made.provisional:  # which is not in the cache
            answer["failure"] = freeze(ToolkitFailed(made.provisional, kind="killed"))
    except ConvertError as error:
        answer["failure"] = freeze(error)
    except Exception as error:  # a defect of ours; the parent's model runs on the CPU and says why
        answer["failure"] = freeze(ConvertError(f"{type(error).__name__}: {error}"))
    new = directory / f"{RESULT}.new"
    new.write_text(json.dumps(answer), encoding="utf-8")
    new.rename(directory / RESULT)
