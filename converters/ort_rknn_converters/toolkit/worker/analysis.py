"""Runs inside the toolkit's own Python: the vendor's accuracy analysis, layer by layer, as numbers.

The vendor writes cosines and distances with five digits into a text file. Relative errors need the size of each tensor,
so the two functions that it measures with are listened to. What it writes besides, each tensor as text, is left out:
on YOLOv8n that took 70 s of 77.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "analysis"
ROW = re.compile(r"^\[(\S+)\] (.+?) *( \S+ \| \S+ +\S+ \| \S+ *)?$", re.MULTILINE)
"""``[Conv] name   cosine | distance   cosine | distance``: with all before it, then the layer alone. Rows that have no
numbers were measured, but not shown: int8 was compared with float32 there."""


def run(checked: Callable[..., None], toolkit: Any, files: dict[str, str], inputs: list[str]) -> list[dict[str, Any]]:
    """Analyse a model that has been built.

    Args:
        checked: Runs one call of the toolkit as a stage and raises when it fails.
        toolkit: The toolkit's object.
        files: Input name -> ``.npy`` file of the one sample.
        inputs: The inputs in the compiled file's order.

    Returns:
        Per layer ``op``, ``tensor``, and relative RMS errors ``entire`` and ``alone`` against the vendor's float32.
    """
    heard = listen()
    paths = [str(Path(files[name]).resolve()) for name in inputs]
    vendor = importlib.import_module("rknn.api.simulator")
    if hasattr(vendor, "_snapshot_tensor"):
        setattr(vendor, "_snapshot_tensor", lambda *_: None)  # noqa: B010 (the writer of the text files)
    checked("analyse", toolkit.accuracy_analysis, inputs=paths, output_dir=FOLDER)
    return rows((Path(FOLDER) / "error_analysis.txt").read_text(encoding="utf-8", errors="replace"), heard)


def rows(text: str, heard: list[float]) -> list[dict[str, Any]]:
    """The table's rows with the errors that were heard: two a row, ``None`` where they do not fit the table."""
    found = ROW.findall(text)
    if len(heard) != 2 * len(found):  # then rows without numbers were not measured at all
        found = [row for row in found if row[2]]
    fits = len(heard) == 2 * len(found)
    return [
        {
            "op": op,
            "tensor": tensor,
            "entire": heard[2 * number] if fits else None,
            "alone": heard[2 * number + 1] if fits else None,
        }
        for number, (op, tensor, numbers) in enumerate(found)
        if op != "Input" and numbers
    ]


def listen() -> list[float]:
    """Put our own cosine and Euclidean distance in scipy's place; returns the list that relative errors come into."""
    heard: list[float] = []

    def euclidean(one: Any, other: Any, *_: Any) -> float:
        first, second = (np.asarray(array, np.float64).ravel() for array in (one, other))
        distance = float(np.linalg.norm(first - second))
        size = float(np.linalg.norm(first))
        heard.append(distance / size if size else (0.0 if distance == 0 else float("inf")))
        return distance

    def cosine(one: Any, other: Any, *_: Any) -> float:
        first, second = (np.asarray(array, np.float64).ravel() for array in (one, other))
        sizes = float(np.linalg.norm(first) * np.linalg.norm(second))
        return 1 - float(first @ second) / sizes if sizes else 0.0

    distance, spatial = types.ModuleType("scipy.spatial.distance"), types.ModuleType("scipy.spatial")
    distance.__dict__.update(euclidean=euclidean, cosine=cosine)
    spatial.__dict__.update(distance=distance)
    sys.modules.update({"scipy.spatial": spatial, "scipy.spatial.distance": distance})
    setattr(sys.modules["scipy"], "spatial", spatial)  # noqa: B010 (a module that may be a stand-in)
    return heard
