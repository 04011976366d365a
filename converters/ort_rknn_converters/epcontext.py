"""Write a compiled model as one ordinary ONNX file: onnxruntime's own convention for compiled models.

The file has the original inputs, outputs and metadata. CPU parts are plain nodes; each NPU segment is one
``com.microsoft.EPContext`` node that carries the compiled code, inside the file or beside it. The segment's own ONNX
is kept as a model-local function of domain ``ort_rknn.segments`` whose weights are extra inputs, named like
initializers of the main graph: weights are stored once, and stripping is dropping functions and what only they use.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from onnx import ValueInfoProto, helper

from ort_rknn_converters.blobs import digest
from ort_rknn_converters.compiled import PROVIDER, CompiledModel, CpuStep, NpuStep
from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.heavy import serialized, size_of
from ort_rknn_converters.steps import IR_VERSION
from ort_rknn_converters.tensor_types import value_info
from ort_rknn_converters.wire import KEY_BUNDLE

__all__ = [
    "EP_DOMAIN",
    "FORMAT",
    "KEY_PLAN",
    "KEY_STEPS",
    "KEY_VERSION",
    "OUR_KEYS",
    "SEGMENT_DOMAIN",
    "build",
    "save",
    "take_weights",
    "to_onnx",
    "write",
]

FORMAT = "1"
"""Version of this form."""

EP_DOMAIN = "com.microsoft"
SEGMENT_DOMAIN = "ort_rknn.segments"
KEY_VERSION, KEY_PLAN, KEY_STEPS = "ort_rknn.version", "ort_rknn.plan", "ort_rknn.steps"
OUR_KEYS = frozenset({KEY_VERSION, KEY_PLAN, KEY_STEPS, KEY_BUNDLE})
"""Entries of ``metadata_props`` that are ours; all others are the original model's."""

_INSIDE_LIMIT = 1_800_000_000
"""Bytes of weights and code up to which one protobuf file holds all (its own limit is 2**31 - 1)."""


def to_onnx(compiled: CompiledModel, *, strip: bool = False) -> onnx.ModelProto:
    """Build the EPContext form with the compiled code inside.

    Args:
        compiled: What to write.
        strip: Leave out the segments' own ONNX.

    Raises:
        CompiledModelError: A stored part cannot be read, or two parts disagree.
    """
    return build(compiled, strip=strip, stem=None)[0]


def build(compiled: CompiledModel, *, strip: bool, stem: str | None) -> tuple[onnx.ModelProto, dict[str, bytes]]:
    """The model, and the files that go beside it when there is a ``stem`` to name them."""
    model = onnx.ModelProto.FromString(compiled.shell.read())
    shell = onnx.ModelProto.FromString(compiled.shell.read())
    graph = model.graph
    del graph.node[:], graph.initializer[:], model.opset_import[:]
    given = {value.name for value in shell.graph.input}
    parts = _Parts(model, stem)
    parts.weights(tensor for tensor in shell.graph.initializer if tensor.name in given)
    rows: list[dict[str, Any]] = []
    for step in compiled.steps:
        if isinstance(step, CpuStep):
            part = onnx.ModelProto.FromString(step.model.read())
            parts.cpu(part)
            rows.append({"kind": "cpu", "name": step.name, "nodes": len(part.graph.node)})
            rows[-1] |= {"inputs": list(step.inputs), "outputs": list(step.outputs)}
        else:
            parts.npu(step, strip=strip)
            rows.append({"kind": "npu", "name": step.name})
            rows[-1] |= {"inputs": [asdict(t) for t in step.inputs], "outputs": [asdict(t) for t in step.outputs]}
    parts.finish({value.name for value in (*shell.graph.input, *shell.graph.output)})
    facts = {
        "steps": rows,
        "targets": list(compiled.targets),
        "toolkit_version": compiled.toolkit_version,
        "passes": list(compiled.passes),
    }
    for key, value in ((KEY_VERSION, FORMAT), (KEY_PLAN, compiled.plan.to_json(indent=None)), (KEY_STEPS, facts)):
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    return model, parts.files


class _Parts:
    """The main graph while it grows part by part."""

    def __init__(self, model: onnx.ModelProto, stem: str | None) -> None:
        self.model = model
        self.files: dict[str, bytes] = {}
        self._stem = stem
        self.model.ir_version = IR_VERSION
        self._opsets = {"": 0}
        self._weights: dict[str, onnx.TensorProto] = {}
        self._values: dict[str, ValueInfoProto] = {}

    def weights(self, tensors: Iterable[onnx.TensorProto]) -> None:
        """Add initializers; the same name must mean the same content everywhere."""
        for tensor in tensors:
            known = self._weights.setdefault(tensor.name, tensor)
            if known is not tensor and known != tensor:
                raise CompiledModelError(f"two parts of the model have different constants called {tensor.name!r}")

    def cpu(self, part: onnx.ModelProto) -> None:
        """Append the nodes of a CPU part."""
        self._needs(part)
        self.model.graph.node.extend(part.graph.node)
        self.weights(part.graph.initializer)
        for value in (*part.graph.input, *part.graph.output, *part.graph.value_info):
            self._values.setdefault(value.name, value)

    def npu(self, step: NpuStep, *, strip: bool) -> None:
        """Append the EPContext node of a segment, and its ONNX as a function."""
        node = self.model.graph.node.add(op_type="EPContext", name=f"{PROVIDER}_{step.name}", domain=EP_DOMAIN)
        node.input.extend(tensor.name for tensor in step.inputs)
        node.output.extend(tensor.name for tensor in step.outputs)
        codes, payload = self._payload(step)
        notes: dict[str, Any] = {"precision": step.precision, "codes": codes}
        self._opsets[EP_DOMAIN] = 1
        for tensor in (*step.inputs, *step.outputs):
            self._values.setdefault(tensor.name, value_info(tensor))
        if step.onnx is not None and not strip:
            part = onnx.ModelProto.FromString(step.onnx.read())
            notes["ir_version"] = part.ir_version
            self._needs(part)
            self._opsets[SEGMENT_DOMAIN] = 1
            self.weights(part.graph.initializer)
            self.model.functions.append(_function(step.name, part))
        for key, value in (
            ("main_context", 1),
            ("embed_mode", int(self._stem is None)),
            ("ep_cache_context", payload),
            ("source", PROVIDER),
            ("ep_sdk_version", step.toolkit_version),
            ("hardware_architecture", ",".join(step.code)),
            ("partition_name", step.name),
            ("notes", json.dumps(notes)),
        ):
            if key != "ep_cache_context":
                node.attribute.append(helper.make_attribute(key, value))
            else:  # straight into its place: the code may have hundreds of megabytes
                node.attribute.add(name=key, type=onnx.AttributeProto.STRING).s = payload

    def finish(self, outside: set[str]) -> None:
        """Write what was collected."""
        graph = self.model.graph
        graph.initializer.extend(self._weights[name] for name in sorted(self._weights))
        graph.value_info.extend(
            self._values[name] for name in sorted(self._values) if name not in outside and name not in self._weights
        )
        self._opsets[""] = self._opsets[""] or 21  # only a model that computes nothing says nothing
        for domain in sorted(self._opsets):
            self.model.opset_import.add(domain=domain, version=self._opsets[domain])

    def _payload(self, step: NpuStep) -> tuple[list[dict[str, Any]], bytes]:
        """The codes' table for ``notes``, and ``ep_cache_context``: all codes in a row, or the first one's file."""
        codes: list[dict[str, Any]] = []
        inside: list[bytes] = []
        for target, blob in step.code.items():
            data = blob.read()
            row: dict[str, Any] = {"target": target, "size": len(data), "sha256": digest(data)}
            if self._stem is None:
                row["offset"] = sum(map(len, inside))
                inside.append(data)
            else:
                middle = f".{target}" if len(step.code) > 1 else ""
                row["file"] = f"{self._stem}_{PROVIDER}_{step.name}{middle}.rknn"
                self.files[row["file"]] = data
            codes.append(row)
        return codes, b"".join(inside) if self._stem is None else codes[0]["file"].encode()

    def _needs(self, part: onnx.ModelProto) -> None:
        self.model.ir_version = max(self.model.ir_version, part.ir_version)
        for entry in part.opset_import:
            known = self._opsets.get(entry.domain, 0)
            if known not in (0, entry.version):
                raise CompiledModelError(
                    f"two parts of the model use versions {known} and {entry.version} of domain {entry.domain!r}"
                )
            self._opsets[entry.domain] = entry.version


def _function(name: str, part: onnx.ModelProto) -> onnx.FunctionProto:
    function = onnx.FunctionProto(name=name, domain=SEGMENT_DOMAIN)
    function.input.extend(value.name for value in part.graph.input)
    function.input.extend(tensor.name for tensor in part.graph.initializer)
    function.output.extend(value.name for value in part.graph.output)
    function.node.extend(part.graph.node)
    function.opset_import.extend(part.opset_import)
    function.value_info.extend(part.graph.value_info)
    return function


def save(
    compiled: CompiledModel, path: str | os.PathLike[str], *, embed: bool = True, strip: bool = False
) -> tuple[Path, ...]:
    """See :meth:`ort_rknn_converters.compiled.CompiledModel.save`."""
    path = Path(path)
    _writable(path)
    model, outside = build(compiled, strip=strip, stem=None if embed else path.stem)
    return write(model, outside, path)


def write(model: onnx.ModelProto, outside: dict[str, bytes], path: Path) -> tuple[Path, ...]:
    """Write a model and the files beside it: all or nothing. What is too large for one file puts its weights beside it.

    Args:
        model: The model; its weights may be taken out of it.
        outside: File name -> content.
        path: The model's file.

    Returns:
        The files written, the model first.

    Raises:
        CompiledModelError: It cannot be written, or is too large all the same.
    """
    _writable(path)
    if size_of(model) > _INSIDE_LIMIT:
        outside = {**outside, f"{path.stem}.weights": take_weights(model, f"{path.stem}.weights")}
        if size_of(model) > _INSIDE_LIMIT:
            raise CompiledModelError(
                f"{path} would exceed protobuf's 2 GB: save it with the compiled code beside the file"
            )
    try:
        with _staged(path.parent) as stage:
            for name, data in outside.items():
                stage(name, [data])
            stage(path.name, serialized(model))
    except OSError as error:
        raise CompiledModelError(f"cannot write {path}: {error.strerror or error}") from error
    return (path, *(path.parent / name for name in outside))


def _writable(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {path.parent}"
        raise CompiledModelError(f"{path} {what}")


def take_weights(model: onnx.ModelProto, location: str, threshold: int = 1024) -> bytes:
    """Move raw data of at least ``threshold`` bytes out of the initializers, as ONNX external data in one file."""
    data = bytearray()
    for tensor in model.graph.initializer:
        if tensor.HasField("raw_data") and len(tensor.raw_data) >= threshold:
            data += b"\0" * (-len(data) % 64)  # aligned, so that a reader may map it
            for key, value in (("location", location), ("offset", len(data)), ("length", len(tensor.raw_data))):
                tensor.external_data.add(key=key, value=str(value))
            data += tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    return bytes(data)


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Callable[[str, Iterable[bytes]], None]]:
    """Files written under other names and renamed together at the end; after a failure none is left.

    Nobody waits for the disk: what a power cut takes can be made again (measured: 0.1 to 0.4 s for 60 MB).
    """
    staged: list[tuple[str, Path]] = []

    def stage(name: str, pieces: Iterable[bytes]) -> None:
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
        staged.append((temporary, folder / name))
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
        Path(temporary).chmod(0o666 & ~_umask())

    try:
        yield stage
        for temporary, final in staged:
            Path(temporary).replace(final)
    finally:
        for temporary, _ in staged:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
