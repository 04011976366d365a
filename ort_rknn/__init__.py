"""ONNX Runtime's Python API on Rockchip NPUs: ``import ort_rknn as ort`` in place of ``import onnxruntime as ort``.

Every public name of the installed onnxruntime is here. What this package does not change is onnxruntime's own object,
looked up on first use, so that the import itself stays light (no onnx, no onnxruntime, no toolkit).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ort_rknn.ort_private.module_aliases import install_finder as _install_finder
from ort_rknn.ort_private.module_aliases import onnxruntime_itself as _onnxruntime_itself
from ort_rknn.ort_private.module_aliases import stands_in as _stands_in

if TYPE_CHECKING:
    from onnxruntime import *  # noqa: F403

    from ort_rknn.api.available_providers import get_all_providers as get_all_providers
    from ort_rknn.api.available_providers import get_available_providers as get_available_providers
    from ort_rknn.api.install_shim import install as install
    from ort_rknn.api.install_shim import uninstall as uninstall
    from ort_rknn.api.model_compiler import ModelCompiler as ModelCompiler
    from ort_rknn.api.session import InferenceSession as InferenceSession
    from ort_rknn.errors import DeviceError as DeviceError
    from ort_rknn.errors import DeviceUnavailable as DeviceUnavailable
    from ort_rknn.errors import InferenceTimeout as InferenceTimeout
    from ort_rknn.errors import InvalidOption as InvalidOption
    from ort_rknn.errors import NpuMemoryFull as NpuMemoryFull
    from ort_rknn.errors import RknnError as RknnError
    from ort_rknn.errors import SessionClosed as SessionClosed
    from ort_rknn.errors import SubmitTimeout as SubmitTimeout
    from ort_rknn.options.table import make_provider_options as make_provider_options
    from ort_rknn.ort_types.iobinding import IOBinding as IOBinding
    from ort_rknn.ort_types.iobinding import SessionIOBinding as SessionIOBinding
    from ort_rknn.ort_types.ortvalue import OrtValue as OrtValue
    from ort_rknn.ort_types.session_options import SessionOptions as SessionOptions

    __version__: str
    __all__: list[str]

_OWN = {
    "DeviceError": "ort_rknn.errors",
    "DeviceUnavailable": "ort_rknn.errors",
    "IOBinding": "ort_rknn.ort_types.iobinding",
    "InferenceSession": "ort_rknn.api.session",
    "InferenceTimeout": "ort_rknn.errors",
    "InvalidOption": "ort_rknn.errors",
    "ModelCompiler": "ort_rknn.api.model_compiler",
    "NpuMemoryFull": "ort_rknn.errors",
    "OrtValue": "ort_rknn.ort_types.ortvalue",
    "RknnError": "ort_rknn.errors",
    "SessionClosed": "ort_rknn.errors",
    "SessionIOBinding": "ort_rknn.ort_types.iobinding",
    "SessionOptions": "ort_rknn.ort_types.session_options",
    "SubmitTimeout": "ort_rknn.errors",
    "get_all_providers": "ort_rknn.api.available_providers",
    "get_available_providers": "ort_rknn.api.available_providers",
    "install": "ort_rknn.api.install_shim",
    "make_provider_options": "ort_rknn.options.table",
    "uninstall": "ort_rknn.api.install_shim",
}
"""Public names that are ours, and where they live. All others are onnxruntime's."""

_NEWER = frozenset({"ModelCompiler"})
"""Of these, what older releases of onnxruntime do not have."""

_DUNDERS = frozenset({"__author__", "__version__"})
"""The only double-underscore names passed on: tools probe modules for many others, which must not load onnxruntime."""


def _follow() -> None:
    import_module("ort_rknn.api.install_shim").follow()


_install_finder(_follow)


def __getattr__(name: str) -> Any:
    if name in _NEWER and not hasattr(_onnxruntime_itself(), name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _OWN:
        value = getattr(_module_of(name), name)
    elif name == "__all__":
        theirs = {key for key in vars(_onnxruntime_itself()) if not key.startswith("_")}
        value = sorted({*_OWN, *theirs} - (_NEWER - theirs))
    elif name == "backend" and hasattr(_onnxruntime_itself(), name):
        value = import_module("ort_rknn.backend")  # a submodule of either is an attribute once it was imported
    elif name == "backend" or (name.startswith("__") and name not in _DUNDERS):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        try:
            value = getattr(_onnxruntime_itself(), name)
        except AttributeError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value  # the next access costs a dictionary look-up
    if _stands_in():
        _follow()
    return value


def _module_of(name: str) -> Any:
    try:
        return import_module(_OWN[name])
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime" or name != "InferenceSession":
            raise
        return import_module("ort_rknn.api.without_onnxruntime")  # models on other machines need no onnxruntime here


def __dir__() -> list[str]:
    theirs = {*dir(_onnxruntime_itself())}
    return sorted({*globals(), *_OWN, *theirs} - (_NEWER - theirs))
