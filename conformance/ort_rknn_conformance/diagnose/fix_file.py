"""Writes the options that cure a model, with all that they need to be taken as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ort_rknn_conformance.case import Case, CaseError, Settings
from ort_rknn_conformance.diagnose.cpu_node_search import Fix
from ort_rknn_conformance.flows import MIXED

__all__ = ["write_options"]

BREAK_EVEN = 1.0
"""Value of ``min_gain`` that conversions have when nothing is said."""


def write_options(path: str | Path, fix: Fix, case: Case, settings: Settings) -> None:
    """Write the options that cure the model, as TOML.

    ``ort-rknn convert MODEL --options FILE`` takes it, and so does a program through the environment variable
    ``ORT_RKNN_CONFIG``. A quantized model that was calibrated on the samples of the check gets them in a folder beside
    the file.

    Raises:
        CaseError: The file cannot be written.
    """
    path = Path(path)
    try:
        path.write_text("\n".join(_lines(path, fix, case, settings)) + "\n", encoding="utf-8")
    except OSError as error:
        raise CaseError(f"{error.filename or path} cannot be written: {error.strerror}") from error


def _lines(path: Path, fix: Fix, case: Case, settings: Settings) -> Iterator[str]:
    meant = dict(MIXED) if settings.precision == "mixed" else {"precision": settings.precision}
    values: dict[str, Any] = {"target": settings.target, **meant, **fix.options}
    if settings.min_gain != BREAK_EVEN:
        values["min_gain"] = settings.min_gain
    if values["precision"] == "fp16":
        values = {name: value for name, value in values.items() if name not in ("max_loss", "metric")}
    elif settings.calibration is not None:
        values["calibration"] = str(Path(settings.calibration).absolute())
        if settings.preprocess:
            values["preprocess"] = settings.preprocess
    else:
        values["calibration"] = str(_samples(path, case))
    if nodes := sorted(fix.nodes | settings.cpu_nodes):
        values["cpu_nodes"] = nodes
    yield f"# Found by ort-rknn check --fix on {json.dumps(case.name, ensure_ascii=False)}."
    for name, value in values.items():
        yield f"{name} = {json.dumps(value, ensure_ascii=False)}"
    if case.shapes:
        yield from ("", "[shapes]")
        yield from (f"{json.dumps(name, ensure_ascii=False)} = {list(dims)}" for name, dims in case.shapes.items())


def _samples(path: Path, case: Case) -> Path:
    """The samples as calibration data, in a folder beside the file."""
    folder = path.absolute().with_suffix(".calibration")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("[0-9][0-9][0-9][0-9].npz"):
        old.unlink()
    for number, feed in enumerate(case.feeds):
        np.savez(folder / f"{number:04}.npz", **feed)
    return folder
