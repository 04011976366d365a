"""The private fast form of a compiled model: ``manifest.json`` and one file a part, in one folder.

It exists for the second start of a session: no protobuf is parsed, nothing but the manifest is read, and onnx is not
imported. Each file's length, digest and time stamp are in the manifest. A file is hashed when it is opened, once a
process; one whose time stamp is not the recorded one when the folder is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ort_rknn_converters.compiled.forms import MANIFEST_FORM
from ort_rknn_converters.compiled.values import CompiledParts, CpuStep, NpuStep, Step, step_row
from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.blobs import MANIFEST, Blob, StoredBlob
from ort_rknn_converters.onnx_file.pinned_blobs import pinned
from ort_rknn_converters.partition.plan import Plan
from ort_rknn_converters.tensor_info import TensorInfo
from ort_rknn_converters.util.own_files import is_plain_name, make_private, read_own, write_own
from ort_rknn_converters.util.plain_data import MOST_BYTES, parse_json

__all__ = ["FORMAT", "MANIFEST", "load_folder", "save_folder"]

FORMAT = 1
"""Version of this form; another version is not read but made anew."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def save_folder(compiled: CompiledParts, directory: Path) -> None:
    """Write ``compiled`` into ``directory`` (made when missing). The manifest comes last.

    Raises:
        OSError: The folder cannot be written.
    """
    make_private(directory)
    files: dict[str, dict[str, Any]] = {}

    def write(name: str, blob: Blob) -> str:
        for each, chunks in blob.files(name).items():
            if not is_plain_name(each):
                raise CompiledModelError(f"no file can be called {each!r}: a step's name leads elsewhere")
            file = directory / each
            found = hashlib.sha256()
            with os.fdopen(os.open(file, _NEW_FILE, 0o600), "wb") as stream:
                for chunk in chunks:
                    found.update(chunk)
                    stream.write(chunk)
            known = file.stat()
            files[each] = {"size": known.st_size, "sha256": found.hexdigest(), "mtime_ns": known.st_mtime_ns}
        return name

    manifest = {
        "format": FORMAT,
        "shell": write("shell.onnx", compiled.stub),
        "steps": [_describe(step, write) for step in compiled.steps],
        "plan": compiled.plan.to_dict(),
        "targets": list(compiled.targets),
        "toolkit_version": compiled.toolkit_version,
        "passes": list(compiled.passes),
        "files": files,
    }
    write_own(directory / MANIFEST, json.dumps(manifest))


def _describe(step: Step, write: Any) -> dict[str, Any]:
    """One step as plain data; its blobs are written on the way."""
    if isinstance(step, CpuStep):
        return {**step_row(step), "model": write(f"{step.name}.onnx", step.model)}
    return {
        **step_row(step),
        "code": {target: write(f"{step.name}.{target}.rknn", blob) for target, blob in step.code.items()},
        "onnx": None if step.onnx is None else write(f"{step.name}.onnx", step.onnx),
        "precision": step.precision,
        "toolkit_version": step.toolkit_version,
    }


def load_folder(directory: Path) -> CompiledParts:
    """Read what :func:`save_folder` wrote.

    Raises:
        CompiledModelError: The folder is missing, incomplete, damaged or of another version.
    """
    try:
        manifest = parse_json(read_own(directory / MANIFEST, MOST_BYTES), MANIFEST_FORM)
        if manifest["format"] != FORMAT:
            raise CompiledModelError(f"{directory} has form {manifest['format']}, this version reads {FORMAT}")
        blobs = {name: _blob(directory, name, facts) for name, facts in manifest["files"].items()}
        plan = Plan.from_dict(manifest["plan"])
        segments = {segment.name: segment for segment in plan.segments}
        return CompiledParts(
            stub=blobs[manifest["shell"]],
            steps=tuple(_step(row, blobs, segments) for row in manifest["steps"]),
            plan=plan,
            targets=tuple(manifest["targets"]),
            toolkit_version=manifest["toolkit_version"],
            passes=tuple(manifest["passes"]),
        )
    except CompiledModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompiledModelError(f"{directory} does not hold a whole compiled model: {error!r}") from error


def _step(row: Mapping[str, Any], blobs: Mapping[str, Blob], segments: Mapping[str, Any]) -> Step:
    if row["kind"] == "cpu":
        return CpuStep(row["name"], blobs[row["model"]], tuple(row["inputs"]), tuple(row["outputs"]))
    return NpuStep(
        name=row["name"],
        segment=segments[row["name"]],
        inputs=TensorInfo.from_dicts(row["inputs"]),
        outputs=TensorInfo.from_dicts(row["outputs"]),
        code={target: blobs[name] for target, name in row["code"].items()},
        onnx=None if row["onnx"] is None else blobs[row["onnx"]],
        precision=row["precision"],
        toolkit_version=row["toolkit_version"],
    )


def _blob(directory: Path, name: str, facts: Mapping[str, Any]) -> StoredBlob:
    """The file, which is proven by its digest when somebody opens it, or at once when its time stamp differs.

    It is pinned: whoever clears the cache meanwhile does not take it from a session that is opened or runs.
    """
    file = directory / name
    found = file.lstat()
    if found.st_size != facts["size"]:
        raise CompiledModelError(f"{file} has {found.st_size} bytes instead of {facts['size']}: it is damaged")
    blob = pinned(StoredBlob(str(file), facts["sha256"]))
    if found.st_mtime_ns != facts["mtime_ns"]:
        blob.prove()
    return blob
