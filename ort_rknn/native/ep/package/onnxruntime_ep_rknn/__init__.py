"""The NPU of Rockchip's SoCs for plain onnxruntime: a plugin execution provider for what ``ort-rknn convert`` writes.

import onnxruntime, onnxruntime_ep_rknn
onnxruntime.register_execution_provider_library("rknn", onnxruntime_ep_rknn.get_library_path())
"""

from pathlib import Path

__all__ = ["get_ep_name", "get_ep_names", "get_library_path"]

_NAME = "RKNNExecutionProvider"
_LIBRARY = "libonnxruntime_ep_rknn.so"


def get_library_path() -> str:
    """The absolute path of the library, for ``register_execution_provider_library``.

    Raises:
        FileNotFoundError: The library is not in this installation.
    """
    path = Path(__file__).resolve().parent / _LIBRARY
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: onnxruntime-ep-rknn was installed without it. Install the wheel for your CPU "
            "(aarch64 or x86-64), or a C compiler, and install it again"
        )
    return str(path)


def get_ep_names() -> list[str]:
    """Names of the providers in the library."""
    return [_NAME]


def get_ep_name() -> str:
    """The name of the only provider in the library."""
    return _NAME
