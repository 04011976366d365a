"""A folder of models, each with the data beside it or random feeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ort_rknn_conformance.case import Case, CaseError
from ort_rknn_conformance.result import CaseResult
from ort_rknn_conformance.sources import model_file
from ort_rknn_converters.compiled.model import is_compiled
from ort_rknn_converters.util.frozen import replace
from ort_rknn_converters.util.own_files import is_file

__all__ = ["cases"]

_BESIDE = (".npz", ".npy")


def cases(
    folder: str | Path,
    *,
    samples: int | None = None,
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
) -> tuple[list[Case], list[CaseResult]]:
    """Every ``.onnx`` file below a folder; ``m.npz`` or ``m.npy`` beside ``m.onnx`` are its data.

    Compiled models are left out: they belong to an original.

    Args:
        folder: Where to look.
        samples: Feeds of each model; all of its data, or 4 random ones, when ``None``.
        seed: For random feeds.
        dims: Sizes of symbolic dimensions of random feeds.

    Returns:
        The cases, and results of those models that make none.

    Raises:
        CaseError: There is no model at all.
    """
    folder = Path(folder)
    files = sorted(file for file in folder.rglob("*.onnx") if is_file(file))
    found: list[Case] = []
    refused: list[CaseResult] = []
    for file in files:
        name = file.relative_to(folder).as_posix()
        if is_compiled(str(file)):
            refused.append(CaseResult(name, "skipped", "a compiled model: ort-rknn check MODEL --reference ORIGINAL"))
            continue
        data = next((path for suffix in _BESIDE if is_file(path := file.with_suffix(suffix))), None)
        try:
            case = model_file.case(file, data=data, samples=samples, seed=seed, dims=dims)
        except CaseError as error:
            refused.append(CaseResult(name, "unsupported", str(error)))
            continue
        found.append(replace(case, name=name))
    if not files:
        raise CaseError(f"{folder}: no .onnx file in this folder or below")
    return found, refused
