"""The software's side: Python, onnxruntime, the toolkit's environment, the cache, what the environment sets."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ort_rknn_conformance.doctor.findings import Finding

__all__ = ["native_lanes", "software_findings"]

OLDEST = (1, 20)  # onnxruntime
ROOM = 500e6  # bytes; a compiled ResNet-50 takes 50 MB (measured), so this is a handful of models

KNOWN = frozenset(
    f"ORT_RKNN_{name}"
    for name in (
        *("CACHE_DIR", "CACHE_LIMIT", "COMPILE", "CONFIG", "DEVICE", "IDLE_UNLOAD_S", "MEMORY_BUDGET", "MIN_GAIN"),
        *("NATIVE_LIBRARY", "PRINT_PERF", "PROMOTE_CPU", "RUNTIME_LIBRARY", "SWITCH_INTERVAL_MS", "TARGET"),
        *("TOOLKIT_PYTHON", "TOOLKIT_WITHOUT_NPU"),
    )
) | {"ZTU_RKNPU2_RUNTIME_LIBRARY"}
"""Environment variables that are shown. Others, whatever they are called, may hold what is nobody's business."""


def software_findings() -> Iterator[Finding]:
    """Look at what runs this program."""
    yield _python()
    yield _onnxruntime()
    yield _toolkit()
    yield _cache()
    names = {name: value for name, value in sorted(os.environ.items()) if name in KNOWN}
    if names:
        yield Finding("environment", "note", ", ".join(f"{name}={value}" for name, value in names.items()))


def _python() -> Finding:
    said = f"{platform.python_version()}, {platform.machine()}, {64 if sys.maxsize > 2**32 else 32} bit"
    if sys.maxsize <= 2**32:
        return Finding("Python", "bad", said, "install a 64-bit system: the runtime for 32 bit is another one")
    return Finding("Python", "ok", said)


def _onnxruntime() -> Finding:
    try:
        version = metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:
        return Finding("onnxruntime", "bad", "not installed", "pip install onnxruntime")
    rivals = sorted(
        {
            name
            for name in ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-silicon")
            if _installed(name)
        }
    )
    if rivals:
        return Finding(
            "onnxruntime",
            "note",
            f"{version}, and {', '.join(rivals)} in the same place: one overwrites the other",
            f"pip uninstall {' '.join(rivals)}; pip install --force-reinstall onnxruntime",
        )
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        return Finding("onnxruntime", "bad", f"{version} is too old", "pip install -U onnxruntime")
    return Finding("onnxruntime", "ok", version)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _toolkit() -> Finding:
    from ort_rknn_converters.errors import ToolkitBroken, ToolkitMissing
    from ort_rknn_converters.extras import COMPLETE, EXTRA
    from ort_rknn_converters.toolkit.npu_access import npu_obstacle
    from ort_rknn_converters.toolkit.setup.environment import find_python, last_failure

    try:
        found = find_python()
    except ToolkitBroken as error:
        what, _, cure = str(error).partition(". ")
        return Finding("toolkit", "bad", what, cure)
    except ToolkitMissing as error:
        said = "not here: models cannot be compiled on this machine, compiled ones run"
        if reason := last_failure():
            said += f". The last installation failed: {reason.splitlines()[0]}"
        return Finding("toolkit", "note", said, str(error).partition(". ")[2] or str(error))
    said = f"rknn-toolkit2 {found.version or '(version unknown)'}, {found.python}"
    if not COMPLETE:
        return Finding("toolkit", "note", f"{said}; onnx and onnx-ir, which a conversion needs, are missing", EXTRA)
    if obstacle := npu_obstacle():
        what, _, cure = obstacle.partition(". To cure it, ")
        return Finding("toolkit", "note", f"{said}; no model compiles here: {what}; compiled ones run", cure)
    return Finding("toolkit", "ok", said)


def native_lanes() -> Finding:
    """Says whether the engine's native part is there; loads numpy."""
    from ort_rknn.devices.rknnrt.native_calls import ENVIRONMENT, LACKING, native_library, switched_off

    topic = "native lanes"
    if switched_off():
        return Finding(topic, "note", f"switched off by {ENVIRONMENT}: Python threads serve the NPU")
    if native_library() is None:
        what, _, cure = LACKING.partition(". ")
        return Finding(topic, "note", what, cure)
    return Finding(topic, "ok", "there")


def _cache() -> Finding:
    from ort_rknn_converters.partition.plan import size_text
    from ort_rknn_converters.util.own_files import make_private
    from ort_rknn_converters.util.user_dirs import cache_directory, places, unusable

    folder = Path(cache_directory())
    if why := unusable(folder):
        said = f"nothing is kept, because {why}; every start compiles again"
        return Finding("cache", "note", said, "name a folder with ORT_RKNN_CACHE_DIR")
    try:
        make_private(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(
            "cache",
            "bad",
            f"{folder}: {error.strerror}; every start compiles again",
            "make it writable, or name another folder with ORT_RKNN_CACHE_DIR",
        )
    held = ", ".join(f"{name} {size_text(size)}" for name, (_, size) in places(folder).items())
    said = f"{folder}{f' ({held})' if held else ''}, {free / 1e9:.1f} GB free"
    if free < ROOM:
        return Finding("cache", "note", said, "ort-rknn cache clear, or another folder with ORT_RKNN_CACHE_DIR")
    return Finding("cache", "ok", said)
