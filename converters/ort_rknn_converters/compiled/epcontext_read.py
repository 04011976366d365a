"""Read a compiled model from the EPContext form that :mod:`ort_rknn_converters.compiled.epcontext_write` writes.

Nothing in the file is trusted: compiled code must have the recorded length and digest, files beside the model must be
beside it, and every part must be there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from ort_rknn_converters.compiled.epcontext_write import (
    EP_DOMAIN,
    FORMAT,
    KEY_PLAN,
    KEY_STEPS,
    KEY_VERSION,
    OUR_KEYS,
    SEGMENT_DOMAIN,
)
from ort_rknn_converters.compiled.forms import NOTES, STEPS
from ort_rknn_converters.compiled.steps import cpu_step, made_values, npu_step, used_values
from ort_rknn_converters.compiled.stub_model import make_stub
from ort_rknn_converters.compiled.values import CompiledParts, CpuStep, NpuStep, Step
from ort_rknn_converters.errors import CompiledModelError, ConvertError
from ort_rknn_converters.onnx_file.blobs import Blob, BytesBlob, FileBlob
from ort_rknn_converters.onnx_file.pinned_blobs import pinned
from ort_rknn_converters.onnx_file.protobuf_wire import NotProtobuf, opened
from ort_rknn_converters.onnx_file.schema import ValueInfoProto, helper, onnx
from ort_rknn_converters.onnx_file.split_model import CODE, SplitModel
from ort_rknn_converters.onnx_file.tensor_types import value_info
from ort_rknn_converters.onnx_file.weights import LargeWeights
from ort_rknn_converters.partition.plan import Plan, Segment
from ort_rknn_converters.provider import PROVIDERS
from ort_rknn_converters.tensor_info import TensorInfo
from ort_rknn_converters.util.own_files import is_file
from ort_rknn_converters.util.plain_data import parse_json

__all__ = ["load_epcontext", "parse_epcontext", "read_epcontext"]


def load_epcontext(model: str | os.PathLike[str] | bytes, folder: Path | None = None) -> CompiledParts:
    """Implements :meth:`.CompiledModel.load`."""
    return read_epcontext(*parse_epcontext(model, folder))


def read_epcontext(name: str, folder: Path | None, model: SplitModel) -> CompiledParts:
    """The compiled model in a file that was parsed.

    Args:
        name: For messages.
        folder: Of the files beside it; ``None`` for bytes.
        model: The file's content.

    Raises:
        CompiledModelError: It is not a compiled model of ours, or it is damaged.
    """
    metadata = {entry.key: entry.value for entry in model.skeleton.metadata_props}
    contexts = [node for node in model.skeleton.graph.node if node.op_type == "EPContext" and node.domain == EP_DOMAIN]
    for node in contexts:
        source = _attributes(node).get("source", b"")
        if source.decode(errors="replace") not in PROVIDERS:
            raise CompiledModelError(
                f"{name} was compiled for {source.decode(errors='replace') or 'an unnamed provider'}, not for a "
                "Rockchip NPU. Open it with the runtime that made it, or convert the original ONNX model"
            )
    version = metadata.get(KEY_VERSION)
    if version != FORMAT:
        what = "is not a compiled model of ort_rknn" if version is None else f"has form {version}, known is {FORMAT}"
        raise CompiledModelError(f"{name} {what}. Convert the original ONNX model with this version of ort-rknn")
    try:
        return _Reader(name, folder, model, metadata).read()
    except Exception as error:  # what libraries raise for damaged content differs between their versions
        if isinstance(error, ConvertError):
            raise
        raise CompiledModelError(f"{name} is damaged ({error!r}). Convert the original ONNX model again") from error


def parse_epcontext(
    model: str | os.PathLike[str] | bytes, folder: Path | None = None
) -> tuple[str, Path | None, SplitModel]:
    """Name for messages, folder of the files beside it, and the model.

    Args:
        model: Path or bytes.
        folder: Where the files are that belong to bytes.

    Raises:
        FileNotFoundError: There is no such file.
        CompiledModelError: It cannot be read.
    """
    name, file = "the model", None
    if not isinstance(model, (bytes, bytearray, memoryview)):
        name, file = os.fspath(model), Path(model).absolute()
    elif folder is not None:
        file = folder.absolute() / "model.onnx"  # which need not be there
    with opened(model) as data:
        try:
            split = SplitModel.parse(data, file)
        except (DecodeError, NotProtobuf) as error:
            raise CompiledModelError(f"{name} is not an ONNX file, or it is cut short") from error
        except ConvertError:
            raise
        except Exception as error:  # those of the file system, of numpy and of onnx-ir
            raise CompiledModelError(
                f"the weights beside {name} cannot be read: {error}. Copy all its files"
            ) from error
    for tensor in split.skeleton.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                raise CompiledModelError(
                    f"the weights of {name} are in {entry.value}: give the model's path, not its bytes"
                )
    return name, file and file.parent, split


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


class _Reader:
    """One file being read; a class only because every step needs the same five things."""

    def __init__(self, name: str, folder: Path | None, model: SplitModel, metadata: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder
        self.proto = proto = model.skeleton
        self.plan = Plan.from_dict(parse_json(metadata[KEY_PLAN]))
        self.facts = parse_json(metadata[KEY_STEPS], STEPS)
        self.small = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.large = dict(model.weights.tensors)
        self.codes = model.code
        self.values = {value.name: value for value in proto.graph.value_info}
        self.functions = {f.name: f for f in proto.functions if f.domain == SEGMENT_DOMAIN}
        self.stub = self._stub()
        self.declared = {v.name: v for v in (*self.stub.graph.output, *self.stub.graph.input)}

    def read(self) -> CompiledParts:
        """Everything, step by step in the order of the nodes."""
        segments = {segment.name: segment for segment in self.plan.segments}
        nodes = list(self.proto.graph.node)
        steps: list[Step] = []
        for row in self.facts["steps"]:
            count = row["nodes"] if row["kind"] == "cpu" else 1
            part, nodes = nodes[:count], nodes[count:]
            if len(part) != count:
                raise CompiledModelError(f"{self.name} lacks nodes of {row['name']}. Convert the model again")
            steps.append(
                self._cpu(row, part) if row["kind"] == "cpu" else self._npu(row, part[0], segments[row["name"]])
            )
        if nodes:
            raise CompiledModelError(f"{self.name} was changed after it was compiled. Convert the model again")
        self._check_flow(steps)
        return CompiledParts(
            stub=BytesBlob(self.stub.SerializeToString(deterministic=True)),
            steps=tuple(steps),
            plan=self.plan,
            targets=tuple(self.facts["targets"]),
            toolkit_version=self.facts["toolkit_version"],
            passes=tuple(self.facts["passes"]),
        )

    def _check_flow(self, steps: Sequence[Step]) -> None:
        """Refuse steps that read what nobody gives them: the session would open, and fail when it runs."""
        graph = self.stub.graph
        known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        for step in steps:
            inputs = [one if isinstance(one, str) else one.name for one in step.inputs]
            if missing := [name for name in inputs if name and name not in known]:
                raise CompiledModelError(
                    f"{self.name} is damaged: nothing makes {missing[0]!r}, which {step.name} reads. Convert the model"
                    " again"
                )
            known.update(one if isinstance(one, str) else one.name for one in step.outputs)
        if missing := [value.name for value in graph.output if value.name not in known]:
            raise CompiledModelError(
                f"{self.name} is damaged: nothing makes its output {missing[0]!r}. Convert the model again"
            )

    def _stub(self) -> onnx.ModelProto:
        stub = make_stub(self.proto)
        own = [entry for entry in stub.metadata_props if entry.key not in OUR_KEYS]
        del stub.metadata_props[:]
        stub.metadata_props.extend(own)
        return stub

    def _cpu(self, row: Mapping[str, Any], nodes: list[onnx.NodeProto]) -> CpuStep:
        part = onnx.ModelProto(ir_version=self.proto.ir_version)
        part.opset_import.extend(self.proto.opset_import)
        part.graph.node.extend(nodes)
        used = used_values(nodes) | set(row["outputs"])
        inputs = set(row["inputs"])
        part.graph.input.extend(self._value(name) for name in row["inputs"])
        part.graph.output.extend(self._value(name) for name in row["outputs"])
        part.graph.value_info.extend(v for n, v in self.values.items() if n in made_values(nodes))
        return cpu_step(row["name"], self._weighted(part, used - inputs), self.stub)

    def _weighted(self, part: onnx.ModelProto, names: Iterable[str]) -> SplitModel:
        """A part with those of its values that are weights."""
        part.graph.initializer.extend(self.small[name] for name in names if name in self.small)
        large = tuple((name, self.large[name]) for name in names if name in self.large)
        return SplitModel(part, LargeWeights(large))

    def _value(self, name: str) -> ValueInfoProto:
        value: ValueInfoProto = self.declared[name] if name in self.declared else self.values[name]
        return value

    def _npu(self, row: Mapping[str, Any], node: onnx.NodeProto, segment: Segment) -> NpuStep:
        attributes = {CODE: self.codes.get(node.name), **_attributes(node)}
        notes = parse_json(attributes["notes"], NOTES)
        inputs, outputs = TensorInfo.from_dicts(row["inputs"]), TensorInfo.from_dicts(row["outputs"])
        return npu_step(
            segment,
            code={entry["target"]: self._code(segment.name, entry, attributes) for entry in notes["codes"]},
            model=self._segment_model(segment.name, inputs, outputs, notes),
            inputs=inputs,
            outputs=outputs,
            precision=notes["precision"],
            toolkit_version=attributes["ep_sdk_version"].decode(),
        )

    def _code(self, segment: str, entry: Mapping[str, Any], attributes: Mapping[str, Any]) -> Blob:
        if attributes["embed_mode"]:
            start = entry["offset"]
            data = attributes[CODE][start : start + entry["size"]]
            blob = BytesBlob(data)
            if blob.size != entry["size"] or blob.digest() != entry["sha256"]:
                raise CompiledModelError(
                    f"the compiled code of {segment} in {self.name} is damaged (its digest differs). "
                    "Copy the file again, or convert the original ONNX model again"
                )
            return blob
        file = entry["file"]
        if self.folder is None:
            raise CompiledModelError(
                f"the compiled code of {segment} is in {file}: give the model's path, not its bytes"
            )
        if not file or Path(file).name != file:
            raise CompiledModelError(f"{self.name} names {file!r}, which is not beside it. Convert the model again")
        path = self.folder / file
        if not is_file(path):
            raise CompiledModelError(
                f"{self.name} needs {file} beside it, and it is not there. Copy both files together"
            )
        beside = pinned(FileBlob(str(path), entry["sha256"]))
        beside.check()
        return beside

    def _segment_model(
        self, name: str, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...], notes: Mapping[str, Any]
    ) -> SplitModel | None:
        function = self.functions.get(name)
        if function is None:
            return None
        part = onnx.ModelProto(ir_version=notes["ir_version"])
        part.opset_import.extend(function.opset_import)
        part.graph.node.extend(function.node)
        part.graph.input.extend(value_info(tensor) for tensor in inputs)
        declared = {tensor.name: tensor for tensor in outputs}
        part.graph.output.extend(value_info(declared[output]) for output in function.output)
        part.graph.value_info.extend(function.value_info)
        weights = function.input[len(inputs) :]
        missing = [weight for weight in weights if weight not in self.small and weight not in self.large]
        if missing:
            raise CompiledModelError(f"{self.name} lacks the weight {missing[0]}. Convert the model again")
        return self._weighted(part, weights)
