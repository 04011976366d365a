"""ONNX Runtime, imported at its first use: in a conversion that is while the toolkit's process works already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.onnx_file.blobs import WEIGHTS_FOLDER

_WRONG_OPTIMIZER = "Pad_Fusion"
"""Takes a ``Pad`` with zeros for the padding of the ``MaxPool`` behind it, which is not of zeros (seen in 1.31: where a
window holds nothing else but negative values, as in YOLOv3-tiny)."""


def __getattr__(name: str) -> Any:
    import onnxruntime  # threads may be here at once: the import's own lock makes them wait

    return getattr(onnxruntime, name)


def quiet_options(level: str = "ORT_ENABLE_ALL") -> Any:
    """``SessionOptions`` of a session that logs nothing: what fails is raised, and told in our own words.

    Args:
        level: A ``GraphOptimizationLevel``; onnxruntime's default.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return options


def takes_weights_folder() -> bool:
    """Whether onnxruntime knows the option :data:`WEIGHTS_FOLDER`; before, paths could be absolute."""
    import onnxruntime

    major, minor, *_ = onnxruntime.__version__.split(".")
    return (int(major), int(minor)) >= (1, 21)  # these were tried: 1.20, and 1.21 to 1.31


def on_cpu(model: str | bytes, options: Any, weights_folder: str = "") -> Any:
    """An ``InferenceSession`` on the CPU alone.

    Args:
        model: Its path, or the model.
        options: From :func:`quiet_options`.
        weights_folder: Of the external data of a model that is given as bytes.
    """
    import onnxruntime

    if weights_folder:
        options.add_session_config_entry(WEIGHTS_FOLDER, weights_folder)
    return onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[_WRONG_OPTIMIZER],
        enable_fallback=0,  # which would print foreign text, and try the same again
    )


@contextmanager
def onnxruntime_errors(text: str) -> Iterator[None]:
    """Turns whatever onnxruntime raises inside the ``with`` block into :class:`ModelError`.

    onnxruntime raises a class of its own per kind of fault; they share no base below ``Exception``.

    Args:
        text: Begins the message; what onnxruntime says follows.

    Raises:
        ModelError: onnxruntime raised something.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{text}: {error}") from error
