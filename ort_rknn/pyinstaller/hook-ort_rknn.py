"""Puts into a frozen program what ``ort_rknn`` imports late, its native lanes, and the versions in a model's key."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_dynamic_libs, collect_submodules, copy_metadata


def _is_wanted(module: str) -> bool:
    """Whether a program may need a module: the commands are programs themselves."""
    return not module.startswith(("ort_rknn.pyinstaller", "ort_rknn.bench"))


hiddenimports = collect_submodules("ort_rknn", filter=_is_wanted)
binaries = collect_dynamic_libs("ort_rknn", search_patterns=["*.so"])
datas = [
    entry for package in ("ort-rknn", "onnxruntime", "onnx", "onnx-ir", "numpy") for entry in copy_metadata(package)
]
