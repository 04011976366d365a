"""The extra ``convert``: whether its packages are installed, and the error that names it. Imports none of them."""

from __future__ import annotations

from importlib.util import find_spec

from ort_rknn_converters.errors import ExtraMissing

__all__ = ["COMPLETE", "EXTRA", "demand_complete"]

COMPLETE = find_spec("onnx") is not None and find_spec("onnx_ir") is not None
"""Whether both packages are installed: what converts needs them."""

EXTRA = 'pip install "ort-rknn[convert]"'
"""The command that installs them."""


def demand_complete(doing: str) -> None:
    """Refuse what needs onnx and onnx-ir where they are not installed.

    Args:
        doing: What it is, at the beginning of a sentence: ``"converting a model"``.

    Raises:
        ExtraMissing: They are not; the message names the extra.
    """
    if not COMPLETE:
        raise ExtraMissing(
            f"{doing} needs the packages onnx and onnx-ir, which are not installed: {EXTRA}. Models that were compiled"
            " before open without them"
        )
