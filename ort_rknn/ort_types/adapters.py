"""LoRA adapters in onnxruntime's ``RunOptions``: found out, and left out.

An adapter's weights take the place of initializers that are graph inputs. Compiled code has those inside, so that a
call with adapters is onnxruntime's. ``RunOptions`` does not say what was put in: a call of a tiny session shows it.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from ort_rknn.ort_private.arguments import TINY_MODEL
from ort_rknn.ort_private.errors import error_class
from ort_rknn.ort_private.own import public
from ort_rknn_converters.util.log import logger

__all__ = ["has_adapters", "without_adapters"]

_COPIED = ("log_severity_level", "log_verbosity_level", "logid", "only_execute_path_to_fetches", "terminate")
_lock = threading.Lock()
_tiny: list[Any] = []


def has_adapters(run_options: Any) -> bool:
    """Whether adapters are active: onnxruntime then feeds inputs the tiny session does not have."""
    if run_options is None or not hasattr(public("RunOptions"), "add_active_adapter"):
        return False
    with _lock:
        if not _tiny:
            options = public("SessionOptions")()
            options.intra_op_num_threads = 1
            options.log_severity_level = 4
            _tiny.append(public("InferenceSession")(TINY_MODEL, options, ["CPUExecutionProvider"]))
    try:
        _tiny[0].run(["b"], {"a": np.zeros([], np.bool_)}, run_options)
    except error_class("InvalidArgument"):
        return True
    except Exception:  # a flag to terminate, an odd severity: the session's own run says so
        return False
    return False


def without_adapters(run_options: Any, call: str) -> Any:
    """The options for a call in which onnxruntime too leaves adapters out, with its warning.

    With adapters it is a copy: without configuration entries, which cannot be read, and deaf to a later ``terminate``.
    """
    if not has_adapters(run_options):
        return run_options
    logger().warning("%s has active adapters specified, but won't have an effect", call)
    plain = public("RunOptions")()
    for name in _COPIED:
        setattr(plain, name, getattr(run_options, name))
    return plain
