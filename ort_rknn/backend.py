"""The ONNX standard's Backend interface, so that its own test runner drives this package as it drives every runtime.

``import ort_rknn.backend as backend``, then ``backend.prepare(model).run(inputs)`` or
``onnx.backend.test.BackendTest(backend)``. The environment variable ``ORT_RKNN_DEVICE`` says on what,
as for any session.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from ort_rknn.api.available_providers import get_available_providers
from ort_rknn.api.session import InferenceSession
from ort_rknn.ort_conventions import RKNN_PROVIDER
from ort_rknn.ort_types.session_options import SessionOptions
from ort_rknn.signatures import shown_as_theirs

ort_backend: Any = import_module("onnxruntime.backend.backend")  # its package may be this very module: aliases.py

__all__ = ["RknnBackend", "is_compatible", "prepare", "run", "run_model", "supports_device"]

__path__: list[str] = []
# ``ort_rknn.backend.backend`` and the like are onnxruntime's own modules, found by ``ort_private/module_aliases.py``.
backend: Any = ort_backend
backend_rep: Any = import_module("onnxruntime.backend.backend_rep")


@shown_as_theirs
class RknnBackend(ort_backend.OnnxRuntimeBackend):  # type: ignore[misc]
    """onnxruntime's backend, with this package's sessions."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """``CPU`` as onnxruntime has it; ``NPU`` where this package's provider can work."""
        if device.upper() == "NPU":
            return RKNN_PROVIDER in get_available_providers()
        return bool(super().supports_device(device))

    @classmethod
    def prepare(cls, model: Any, device: str | None = None, **kwargs: Any) -> Any:
        """Open a model.

        Args:
            model: Path, bytes, ``ModelProto``, a session, or what this function returned before.
            device: ``CPU``, ``NPU`` or ``None``.
            **kwargs: Fields of ``SessionOptions``; those that would write files are refused, unknown ones ignored.
        """
        if not isinstance(model, (str, bytes)):
            return super().prepare(model, device, **kwargs)  # which comes back with bytes for a ModelProto
        if device is not None and not cls.supports_device(device):
            raise RuntimeError(f"Incompatible device expected '{device}', got '{ort_backend.get_device()}'")
        unwanted = os.environ.get("ORT_ONNX_BACKEND_EXCLUDE_PROVIDERS", "").split(",")
        if device is not None and device.upper() == "CPU":
            unwanted.append(RKNN_PROVIDER)
        providers = [name for name in get_available_providers() if name not in unwanted]
        session = InferenceSession(model, _session_options(kwargs), providers)
        session.disable_fallback()  # a fallback would hide what the tests are to find
        return super().prepare(session)


def _session_options(fields: dict[str, Any]) -> SessionOptions:
    allowed = getattr(ort_backend, "_ALLOWED_SESSION_OPTIONS", None)  # older releases take every field
    options = SessionOptions()
    for name, value in fields.items():
        if not hasattr(options, name):
            continue
        if allowed is not None and name not in allowed:
            raise RuntimeError(
                f"SessionOptions attribute '{name}' is not permitted via the backend API. "
                f"Allowed attributes: {', '.join(sorted(allowed))}"
            )
        setattr(options, name, value)
    return options


is_compatible = RknnBackend.is_compatible
prepare = RknnBackend.prepare
run = run_model = RknnBackend.run_model
supports_device = RknnBackend.supports_device
