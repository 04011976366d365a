"""Explains what went wrong where no check foresaw it: the model, which ONNX Runtime refuses too, or we.

Checking every model completely before it is prepared would take as long as ONNX Runtime takes to open it. A model that
is invalid in a way nobody looks for ends in some IndexError instead; ONNX Runtime is asked then, and only then.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir

from ort_rknn_converters.errors import ConvertError, Fault, ModelError, RunFailed
from ort_rknn_converters.graph.infer import skeleton
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import QUICK_S, bounded
from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.out_of_memory import short_of_memory

__all__ = ["check_crash_free", "explained"]

_LIBRARIES = frozenset({"builtins", "google", "ml_dtypes", "numpy", "onnx", "onnx_ir", "onnxruntime", "struct"})
"""Packages whose errors mean a fault: of the model, or of ours."""


def check_crash_free(loaded: ir.Model, model: Callable[[], str | bytes]) -> None:
    """Keep models from ONNX's shape inference that it dies of: an input without a type ended the process.

    ONNX's checker looks first, which takes milliseconds. It refuses more than is invalid, so what it refuses is asked
    of ONNX Runtime, which never begins to infer shapes of such models.

    Args:
        loaded: The model.
        model: Gives it as ONNX Runtime takes it.

    Raises:
        ModelError: ONNX Runtime cannot open it either.
    """
    with skeleton(loaded) as proto:
        small = []
        for tensor in proto.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            else:
                small.append(tensor)
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(small)
        try:
            onnx.checker.check_model(proto)
        except Exception as error:  # the binding raises several kinds
            if refused := _refusal(model):
                raise ModelError(f"ONNX Runtime cannot load the model: {refused}") from error


@contextmanager
def explained(model: Callable[[], str | bytes]) -> Iterator[None]:
    """Turns whatever else is raised inside the ``with`` block into an error of ours.

    Args:
        model: Gives what is converted, as ONNX Runtime takes it.

    Raises:
        ModelError: ONNX Runtime cannot open it either.
        RunFailed: There was no memory.
        Fault: It can.
    """
    try:
        yield
    except (ConvertError, OSError):
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _LIBRARIES:
            raise  # a class of the caller's, from a function that was handed in
        if isinstance(error, MemoryError) or short_of_memory(f"{type(error).__name__}: {error}"):
            raise RunFailed(
                f"the conversion needs more memory than there is ({shown(error)}): convert it on a machine with more",
                kind="memory",
            ) from error
        if refused := _refusal(model):
            raise ModelError(f"ONNX Runtime cannot load the model: {refused}") from error
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise Fault(
            f"the conversion failed by a fault of its own ({type(error).__name__}: {shown(error)}; in"
            f" {Path(place.filename).name}, line {place.lineno}). Please report it with the model; until then"
            " onnxruntime runs it on the CPU"
        ) from error


def _refusal(model: Callable[[], str | bytes]) -> str:
    """Asks ONNX Runtime to open a model; returns its words where it does not, else an empty text."""
    try:
        bounded(lambda _: ort.on_cpu(model(), ort.quiet_options("ORT_DISABLE_ALL")), QUICK_S, "the whole model")
    except Exception as error:  # onnxruntime's classes share no base below Exception
        return str(error)
    return ""
