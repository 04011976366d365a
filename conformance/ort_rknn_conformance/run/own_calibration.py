"""Calibration data for cases that bring none: the case's own feeds, so that the ranges fit what is compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ort_rknn_conformance.case import Case, Settings

__all__ = ["calibrated"]


@contextmanager
def calibrated(case: Case, settings: Settings) -> Iterator[dict[str, Any]]:
    """The options that say what a quantized model is calibrated on; none for fp16.

    Args:
        case: Its feeds are written to a folder where the settings name no data.
        settings: Precision, and the user's calibration data if any.
    """
    if settings.calibration is not None:
        yield {"calibration": settings.calibration, "preprocess": settings.preprocess}
        return
    plain = all(isinstance(value, np.ndarray) for feed in case.feeds for value in feed.values())
    if settings.precision == "fp16" or not plain or not all(case.feeds):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="ort-rknn-calibration-") as folder:
        for number, feed in enumerate(case.feeds):
            np.savez(Path(folder) / f"{number:04}.npz", **feed)
        yield {"calibration": folder}
