"""Lists the execution providers: onnxruntime's, and ours where it can work."""

from __future__ import annotations

from ort_rknn.opening.choose_device import npu_problem
from ort_rknn.options.providers import parse_options
from ort_rknn.ort_conventions import RKNN_PROVIDER
from ort_rknn.ort_private.own import public

__all__ = ["get_all_providers", "get_available_providers"]


def get_available_providers() -> list[str]:
    """The list onnxruntime gives, with ``RKNNExecutionProvider`` in front where it can work.

    It can where an NPU works, and where the environment variable ``ORT_RKNN_DEVICE`` names a device by itself. Where a
    program has registered the plugin of the same name, onnxruntime lists it too: it stands there once.
    """
    theirs: list[str] = public("get_available_providers")()
    names = [name for name in theirs if name != RKNN_PROVIDER]
    return [RKNN_PROVIDER, *names] if len(names) < len(theirs) or _can_work() else names


def get_all_providers() -> list[str]:
    """Every provider name that is known, ours first, the CPU's last."""
    return [RKNN_PROVIDER, *(name for name in public("get_all_providers")() if name != RKNN_PROVIDER)]


def _can_work() -> bool:
    options = parse_options()
    if options.device in ("auto", "npu", "lite"):
        return npu_problem(options.runtime_library) is None
    return options.device != "cpu"
