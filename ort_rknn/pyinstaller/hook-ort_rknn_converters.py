"""Puts into a frozen program what a conversion imports late, and the files that the toolkit's own Python runs."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

hiddenimports = [
    *collect_submodules("ort_rknn_converters", filter=lambda name: not name.startswith("ort_rknn_converters.cli")),
    *collect_submodules("onnx_ir", filter=lambda name: "test" not in name),
    *collect_submodules("onnx", filter=lambda name: name.startswith(("onnx.defs", "onnx.helper", "onnx.shape"))),
]
# In another interpreter there is no frozen archive to import from: these are files.
datas = collect_data_files(
    "ort_rknn_converters", include_py_files=True, includes=["toolkit/worker/*.py", "**/*.json", "**/*.toml"]
)
