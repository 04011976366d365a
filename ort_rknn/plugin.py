"""The plugin execution provider in this package, for programs that use onnxruntime itself.

``onnxruntime.register_execution_provider_library("rknn", ort_rknn.plugin.get_library_path())`` lets plain onnxruntime
run what ``ort-rknn convert`` writes. The distribution ``onnxruntime-ep-rknn`` is the same library by itself.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

from ort_rknn.errors import DeviceUnavailable
from ort_rknn.ort_conventions import RKNN_PROVIDER

__all__ = ["LIBRARY", "get_ep_name", "get_ep_names", "get_library_path"]

LIBRARY = "libonnxruntime_ep_rknn.so"
"""File name of the library."""


def get_library_path() -> str:
    """The absolute path of the library, for ``register_execution_provider_library``.

    Raises:
        DeviceUnavailable: This installation has none: it was made without a C compiler.
    """
    import ort_rknn

    roots = [Path(path) for path in ort_rknn.__path__] + [Path(sysconfig.get_path("platlib")) / "ort_rknn"]
    for root in roots:
        path = root / "native" / LIBRARY
        if path.is_file():
            return str(path.resolve())
    raise DeviceUnavailable(
        f"this installation of ort-rknn has no {LIBRARY}: it was made where there is no C compiler. Install one and "
        "ort-rknn again, or install the wheel onnxruntime-ep-rknn"
    )


def get_ep_names() -> list[str]:
    """Names of the providers in the library."""
    return [RKNN_PROVIDER]


def get_ep_name() -> str:
    """The name of the only provider in the library."""
    return RKNN_PROVIDER
