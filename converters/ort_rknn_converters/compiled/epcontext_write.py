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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ort_rknn_converters.compiled.steps import IR_VERSION
from ort_rknn_converters.compiled.values import CompiledParts, CpuStep, NpuStep, step_row
from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.blobs import Blob, Buffer, BytesBlob
from ort_rknn_converters.onnx_file.protobuf_wire import KEY_BUNDLE
from ort_rknn_converters.onnx_file.schema import ValueInfoProto, helper, ir, onnx
from ort_rknn_converters.onnx_file.split_model import SplitModel
from ort_rknn_converters.onnx_file.tensor_types import value_info
from ort_rknn_converters.onnx_file.weights import LargeWeights, is_same
from ort_rknn_converters.provider import PROVIDER

__all__ = [
    "EP_DOMAIN",
    "FORMAT",
    "KEY_FITNESS",
    "KEY_PLAN",
    "KEY_STEPS",
    "KEY_VERSION",
    "OUR_KEYS",
    "SEGMENT_DOMAIN",
    "build_epcontext",
    "save_epcontext",
    "write_model",
]

FORMAT = "1"
"""Version of this form."""

EP_DOMAIN = "com.microsoft"
SEGMENT_DOMAIN = "ort_rknn.segments"
KEY_VERSION, KEY_PLAN, KEY_STEPS = "ort_rknn.version", "ort_rknn.plan", "ort_rknn.steps"
KEY_FITNESS = f"ep_compatibility_info.{PROVIDER}"
"""Metadata key by which onnxruntime asks a plugin, before a session is made, whether the model fits the machine."""
OUR_KEYS = frozenset({KEY_VERSION, KEY_PLAN, KEY_STEPS, KEY_BUNDLE, KEY_FITNESS})
"""Entries of ``metadata_props`` that are ours; all others are the original model's."""


def build_epcontext(
    compiled: CompiledParts, *, strip: bool = False, stem: str | None = None, prefix: str = ""
) -> tuple[SplitModel, dict[str, Blob]]:
    """Build the EPContext form.

    Args:
        compiled: What to write.
        strip: Leave out the segments' own ONNX.
        stem: Begins the names of the files that take the compiled code; ``None`` puts it inside.
        prefix: In front of the names of the EPContext nodes.

    Returns:
        The model, and the files that go beside it.

    Raises:
        CompiledModelError: A stored part cannot be read, or two parts disagree.
    """
    model = onnx.ModelProto.FromString(compiled.stub.read())
    graph = model.graph
    edges = {value.name for value in (*graph.input, *graph.output)}
    given = {value.name for value in graph.input}
    overridable = [tensor for tensor in graph.initializer if tensor.name in given]
    del graph.node[:], graph.initializer[:], model.opset_import[:]
    parts = _Parts(model, stem, prefix)
    parts.add_weights(LargeWeights(), overridable)
    rows: list[dict[str, Any]] = []
    for step in compiled.steps:
        if isinstance(step, CpuStep):
            rows.append({**step_row(step), "nodes": parts.cpu(SplitModel.of(step.model))})
        else:
            parts.npu(step, strip=strip)
            rows.append(step_row(step))
    facts = {
        "steps": rows,
        "targets": list(compiled.targets),
        "toolkit_version": compiled.toolkit_version,
        "passes": list(compiled.passes),
    }
    for key, value in ((KEY_VERSION, FORMAT), (KEY_PLAN, compiled.plan.to_json(indent=None)), (KEY_STEPS, facts)):
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    if compiled.npu_steps:
        fitness = f"rknn;targets={','.join(compiled.targets)};toolkit={compiled.toolkit_version}"
        model.metadata_props.add(key=KEY_FITNESS, value=fitness)
    return parts.finish(edges), parts.files


class _Parts:
    """The main graph while it grows part by part."""

    def __init__(self, model: onnx.ModelProto, stem: str | None, prefix: str) -> None:
        self.model = model
        self.files: dict[str, Blob] = {}
        self._stem = stem
        self._prefix = prefix
        self.model.ir_version = IR_VERSION
        self._opsets = {"": 0}
        self._weights: dict[str, onnx.TensorProto] = {}
        self._large: dict[str, ir.TensorProtocol] = {}
        self._code: dict[str, bytes] = {}
        self._values: dict[str, ValueInfoProto] = {}

    def add_weights(self, large: LargeWeights, others: Iterable[onnx.TensorProto]) -> None:
        """Add initializers; the same name must mean the same content everywhere."""
        for name, tensor in large.tensors:
            if name in self._weights or not is_same(self._large.setdefault(name, tensor), tensor):
                raise _different(name)
        for proto in others:
            if proto.name in self._large or self._weights.setdefault(proto.name, proto) != proto:
                raise _different(proto.name)

    def cpu(self, part: SplitModel) -> int:
        """Append the nodes of a CPU part; returns how many."""
        graph = self._add(part)
        self.model.graph.node.extend(graph.node)
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._values.setdefault(value.name, value)
        return len(graph.node)

    def npu(self, step: NpuStep, *, strip: bool) -> None:
        """Append the EPContext node of a segment, and its ONNX as a function."""
        name = f"{self._prefix}{PROVIDER}_{step.name}"
        node = self.model.graph.node.add(op_type="EPContext", name=name, domain=EP_DOMAIN)
        node.input.extend(tensor.name for tensor in step.inputs)
        node.output.extend(tensor.name for tensor in step.outputs)
        codes, self._code[name] = self._payload(step)
        notes: dict[str, Any] = {"precision": step.precision, "codes": codes}
        self._opsets[EP_DOMAIN] = 1
        for tensor in (*step.inputs, *step.outputs):
            self._values.setdefault(tensor.name, value_info(tensor))
        if step.onnx is not None and not strip:
            part = SplitModel.of(step.onnx)
            notes["ir_version"] = part.skeleton.ir_version
            self._opsets[SEGMENT_DOMAIN] = 1
            self._add(part)
            self.model.functions.append(_function(step.name, part))
        for key, value in (
            ("main_context", 1),
            ("embed_mode", int(self._stem is None)),
            ("source", PROVIDER),
            ("ep_sdk_version", step.toolkit_version),
            ("hardware_architecture", ",".join(step.code)),
            ("partition_name", step.name),
            ("notes", json.dumps(notes)),
        ):
            node.attribute.append(helper.make_attribute(key, value))

    def finish(self, outside: set[str]) -> SplitModel:
        """Write what was collected."""
        graph = self.model.graph
        graph.initializer.extend(self._weights[name] for name in sorted(self._weights))
        inside = outside | set(self._weights) | set(self._large)
        graph.value_info.extend(self._values[name] for name in sorted(self._values) if name not in inside)
        self._opsets[""] = self._opsets[""] or 21  # only a model that computes nothing says nothing
        for domain in sorted(self._opsets):
            self.model.opset_import.add(domain=domain, version=self._opsets[domain])
        return SplitModel(self.model, LargeWeights(tuple(sorted(self._large.items()))), self._code)

    def _payload(self, step: NpuStep) -> tuple[list[dict[str, Any]], bytes]:
        """The codes' table for ``notes``, and ``ep_cache_context``: all codes in a row, or the first one's file."""
        codes: list[dict[str, Any]] = []
        inside: list[bytes] = []
        for target, blob in step.code.items():
            held = blob if isinstance(blob, BytesBlob) else BytesBlob(blob.read())
            row: dict[str, Any] = {"target": target, "size": held.size, "sha256": held.digest()}
            if self._stem is None:
                row["offset"] = sum(map(len, inside))
                inside.append(held.data)
            else:
                middle = f".{target}" if len(step.code) > 1 else ""
                row["file"] = f"{self._stem}_{PROVIDER}_{step.name}{middle}.rknn"
                self.files[row["file"]] = held
            codes.append(row)
        return codes, b"".join(inside) if self._stem is None else codes[0]["file"].encode()

    def _add(self, part: SplitModel) -> onnx.GraphProto:
        """Take over a part's weights and what it asks of its reader."""
        self.model.ir_version = max(self.model.ir_version, part.skeleton.ir_version)
        for entry in part.skeleton.opset_import:
            known = self._opsets.get(entry.domain, 0)
            if known not in (0, entry.version):
                raise CompiledModelError(
                    f"two parts of the model use versions {known} and {entry.version} of domain {entry.domain!r}"
                )
            self._opsets[entry.domain] = entry.version
        self.add_weights(part.weights, part.skeleton.graph.initializer)
        return part.skeleton.graph


def _different(name: str) -> CompiledModelError:
    return CompiledModelError(f"two parts of the model have different constants called {name!r}")


def _function(name: str, part: SplitModel) -> onnx.FunctionProto:
    graph = part.skeleton.graph
    function = onnx.FunctionProto(name=name, domain=SEGMENT_DOMAIN)
    function.input.extend(value.name for value in graph.input)
    function.input.extend(
        sorted([*(tensor.name for tensor in graph.initializer), *(name for name, _ in part.weights.tensors)])
    )
    function.output.extend(value.name for value in graph.output)
    function.node.extend(graph.node)
    function.opset_import.extend(part.skeleton.opset_import)
    function.value_info.extend(graph.value_info)
    return function


def save_epcontext(
    compiled: CompiledParts, path: str | os.PathLike[str], *, embed: bool = True, strip: bool = False
) -> tuple[Path, ...]:
    """Implements :meth:`.CompiledModel.save`."""
    path = Path(path)
    _writable(path)
    return write_model(*build_epcontext(compiled, strip=strip, stem=None if embed else path.stem), path)


def write_model(
    model: SplitModel, files: Mapping[str, Blob], path: Path, *, weights_file: str = "", threshold: int = 1024
) -> tuple[Path, ...]:
    """Write a model and the files beside it: all or nothing; see :meth:`.SplitModel.files`.

    Args:
        model: The model.
        files: File name -> content.
        path: The model's file.
        weights_file: Name of the file that takes the weights in any case.
        threshold: Bytes from which a weight is put there.

    Returns:
        The files written, the model first.

    Raises:
        CompiledModelError: It cannot be written, or is too large all the same.
    """
    _writable(path)
    written = model.files(path.name, weights_file=weights_file, threshold=threshold)
    for name, blob in files.items():
        written |= blob.files(name)
    try:
        with _staged(path.parent) as stage:
            for name, chunks in written.items():
                stage(name, chunks)
    except OSError as error:
        raise CompiledModelError(f"cannot write {path}: {error.strerror or error}") from error
    return tuple(path.parent / name for name in written)


def _writable(path: Path) -> None:
    if not path.parent.is_dir():
        raise CompiledModelError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not path.is_file():  # a device such as /dev/null would be replaced by a file, if root asks
        raise CompiledModelError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}")


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Callable[[str, Iterable[Buffer]], None]]:
    """Files written under other names and renamed together at the end; after a failure none is left.

    Nobody waits for the disk: what a power cut takes can be made again (measured: 0.1 to 0.4 s for 60 MB).
    """
    staged: list[tuple[str, Path]] = []

    def stage(name: str, chunks: Iterable[Buffer]) -> None:
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
        staged.append((temporary, folder / name))
        with os.fdopen(handle, "wb") as file:
            file.writelines(chunks)
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
