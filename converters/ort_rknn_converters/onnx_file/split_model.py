"""An ONNX model whose large contents lie beside its message, to be passed on and written without copying them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.blobs import Blob, Buffer
from ort_rknn_converters.onnx_file.protobuf_wire import (
    ATTRIBUTE_S,
    CONTENT_LIMIT,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    TENSOR_RAW,
    fields,
    opened,
    opening,
)
from ort_rknn_converters.onnx_file.schema import AttributeProto, GraphProto, ModelProto, TensorProto, ir, onnx
from ort_rknn_converters.onnx_file.tensor_types import bodies
from ort_rknn_converters.onnx_file.weights import LARGE, LargeWeights, is_large, located, raw_bytes, size_of
from ort_rknn_converters.util.frozen import frozen

__all__ = ["CODE", "SplitModel", "tensors"]

CODE = "ep_cache_context"
"""Attribute of an EPContext node: the compiled code."""

_ALIGNED = 64
"""Bytes that weights in a file of their own are aligned to, so that a reader may map them: a cache line's."""


@frozen
class SplitModel(Blob):
    """A model, and as a blob its bytes: one ordinary ONNX message.

    Attributes:
        skeleton: The model without what follows.
        weights: Large initializers of the main graph.
        code: Name of an EPContext node -> its attribute :data:`CODE`.
    """

    skeleton: onnx.ModelProto
    weights: LargeWeights = LargeWeights()
    code: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, blob: Blob) -> SplitModel:
        """The model in a blob.

        Raises:
            CompiledModelError: Its file cannot be read.
            ValueError, google.protobuf.message.DecodeError: It is no ONNX model.
        """
        if isinstance(blob, SplitModel):
            return blob
        try:
            with opened(blob.path or blob.read()) as data:
                return cls.parse(data, Path(blob.path) if blob.path else None)
        except OSError as error:
            raise CompiledModelError(f"cannot read {blob.path}: {error}. Convert the model again") from error

    @classmethod
    def parse(cls, data: bytes | mmap.mmap, file: Path | None = None) -> SplitModel:
        """Read a model; its large contents are copied once, those in files of their own not at all.

        Args:
            data: The model's bytes, or its file mapped.
            file: That file, when there is one.

        Raises:
            OSError: A file beside it cannot be read.
            ValueError, google.protobuf.message.DecodeError: It is no ONNX model, or a file beside it is too short, or
                elsewhere.
        """
        kept = list[bytes]()
        large, codes = list[tuple[str, ir.TensorProtocol]](), dict[str, bytes]()
        at = 0
        for number, _, low, high in fields(data, 0, len(data)):
            if number == MODEL_GRAPH:
                graph = _apart(data, low, high, large, codes)
                kept += [opening(sum(map(len, graph)), (b"", MODEL_GRAPH)), *graph]
            else:
                kept.append(data[at:high])
            at = high
        skeleton = ModelProto.FromString(b"".join(kept))
        if file is not None:
            large += _taken_from_files(skeleton, file)
        return cls(skeleton, LargeWeights(tuple(large)), codes)

    @property
    def path(self) -> None:
        """There is no file."""
        return

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self.chunks()))

    @property
    def content_size(self) -> int:
        """Bytes of the weights and codes inside, next to which nothing counts: the exact size costs a copy of them."""
        inside = (tensor for tensor in self.skeleton.graph.initializer if not _is_outside(tensor))
        return self.weights.size + sum(map(size_of, inside)) + sum(map(len, self.code.values()))

    @property
    def fits_in_one(self) -> bool:
        """Whether one protobuf message holds all of it."""
        return self.content_size <= CONTENT_LIMIT

    def initializers(self) -> dict[str, ir.TensorProtocol]:
        """All initializers of the main graph, but for strings."""
        others = (tensor for tensor in self.skeleton.graph.initializer if size_of(tensor))
        return {tensor.name: ir.serde.deserialize_tensor(tensor) for tensor in others} | dict(self.weights.tensors)

    def chunks(self) -> Iterator[Buffer]:
        """The message, its large contents one by one. There is one graph in it: not every reader joins several."""
        data = self.skeleton.SerializeToString(deterministic=True)
        if not self.code and not self.weights.tensors:
            yield data
            return
        at = 0
        for number, _, low, high in fields(data, 0, len(data)):
            if number == MODEL_GRAPH:
                yield from self._graph(data, low, high)
            else:
                yield data[at:high]
            at = high

    def _graph(self, data: bytes, start: int, end: int) -> Iterator[Buffer]:
        """The skeleton graph's bytes, and what belongs to it."""
        own = list(self._fields(data, start, end)) if self.code else [(data[start:end], b"")]
        weights = list(self.weights.fields())
        size = sum(len(head) + len(code) for head, code in own)
        size += sum(len(head) + tensor.nbytes for head, tensor in weights)
        yield opening(size, (b"", MODEL_GRAPH))
        for head, code in own:
            yield head
            yield code
        for head, tensor in weights:
            yield head
            yield raw_bytes(tensor)

    def _fields(self, data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        """The skeleton graph's fields, and the code that follows each: of nodes, the end of an attribute more."""
        attribute = AttributeProto(name=CODE, type=AttributeProto.STRING).SerializeToString(deterministic=True)
        names = (node.name for node in self.skeleton.graph.node)
        at = start
        for number, _, low, high in fields(data, start, end):
            code = self.code.get(next(names), b"") if number == GRAPH_NODE else b""
            if code:
                inside = (b"", GRAPH_NODE), (data[low:high], NODE_ATTRIBUTE), (attribute, ATTRIBUTE_S)
                yield opening(len(code), *inside), code
            else:
                yield data[at:high], b""
            at = high

    def whole(self) -> onnx.ModelProto:
        """The model with everything inside, a copy."""
        model = ModelProto()
        model.CopyFrom(self.skeleton)
        model.graph.initializer.extend(self.weights.protos())
        for node in model.graph.node if self.code else ():
            if node.name in self.code:
                node.attribute.add(name=CODE, type=AttributeProto.STRING).s = self.code[node.name]
        return model

    def source(self) -> tuple[str | bytes, str]:
        """For onnxruntime: the bytes, in which weights that lie in files still do, and the folder of these files."""
        held = [(name, tensor) for name, tensor in self.weights.tensors if not isinstance(tensor, ir.ExternalTensor)]
        files = [(name, tensor) for name, tensor in self.weights.tensors if isinstance(tensor, ir.ExternalTensor)]
        if not files:
            return self.read(), ""
        folder = os.path.commonpath([Path(tensor.path).parent for _, tensor in files])
        skeleton = ModelProto()
        skeleton.CopyFrom(self.skeleton)
        for name, tensor in files:
            proto = skeleton.graph.initializer.add(name=name)
            ir.serde.serialize_tensor_into(proto, tensor)
            proto.name = name
            entry = next(one for one in proto.external_data if one.key == "location")
            entry.value = os.path.relpath(tensor.path, folder) if ort.takes_weights_folder() else tensor.path
        return SplitModel(skeleton, LargeWeights(tuple(held)), self.code).read(), folder

    def files(self, name: str, *, weights_file: str = "", threshold: int = 1024) -> dict[str, Iterator[Buffer]]:
        """Files to write, name to content: what is too large for one file has its weights in a second one.

        Args:
            name: The model's file.
            weights_file: The file, beside it, that takes the weights in any case.
            threshold: Bytes from which a weight is put there.

        Raises:
            CompiledModelError: The codes alone are too large.
        """
        if not weights_file and not self.fits_in_one:
            weights_file = f"{Path(name).stem}.weights"
        model, beside = self._beside(weights_file, threshold) if weights_file else (self, {})
        if not model.fits_in_one:
            raise CompiledModelError(f"{name} would exceed protobuf's 2 GB: save the compiled code beside it")
        return {name: model.chunks(), **beside}

    def _beside(self, location: str, threshold: int) -> tuple[SplitModel, dict[str, Iterator[Buffer]]]:
        """The model with its weights as ONNX external data in one file, and what that holds."""
        skeleton = ModelProto()
        skeleton.CopyFrom(self.skeleton)
        held: list[tuple[TensorProto, ir.TensorProtocol]] = []
        for ours, theirs in zip(self.skeleton.graph.initializer, skeleton.graph.initializer, strict=True):
            if size_of(ours) >= threshold:
                theirs.ClearField("raw_data")
                held.append((theirs, ir.serde.deserialize_tensor(ours)))
        for name, tensor in self.weights.tensors:
            proto = skeleton.graph.initializer.add(name=name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
            held.append((proto, tensor))
        end, content = 0, list[tuple[bytes, ir.TensorProtocol]]()
        for proto, tensor in held:
            padding = -end % _ALIGNED
            for key, value in (("location", location), ("offset", end + padding), ("length", tensor.nbytes)):
                proto.external_data.add(key=key, value=str(value))
            proto.data_location = TensorProto.EXTERNAL
            content.append((bytes(padding), tensor))
            end += padding + tensor.nbytes
        chunks = (chunk for padding, tensor in content for chunk in (padding, raw_bytes(tensor)))
        return SplitModel(skeleton, code=self.code), {location: chunks}

    __eq__, __hash__ = Blob.__eq__, Blob.__hash__

    def __repr__(self) -> str:
        return f"SplitModel({self.skeleton.graph.name!r}, {len(self.weights.tensors)} weights apart)"


def _apart(
    data: bytes | mmap.mmap, start: int, end: int, large: list[tuple[str, ir.TensorProtocol]], codes: dict[str, bytes]
) -> list[bytes]:
    """A graph's bytes without its large weights and codes, which are added to ``large`` and ``codes``."""
    kept = []
    at = start
    for number, _, low, high in fields(data, start, end):
        counts = high - low >= LARGE
        tensor = _tensor(data, low, high) if counts and number == GRAPH_INITIALIZER else None
        node, code = _node(data, low, high) if counts and number == GRAPH_NODE else (None, b"")
        if tensor is not None:
            large.append((tensor.name or "", tensor))
        elif node is not None and code and codes.setdefault(node.name, code) is code:
            content = node.SerializeToString()
            kept += [opening(len(content), (b"", GRAPH_NODE)), content]
        else:
            kept.append(data[at:high])
        at = high
    return kept


def _tensor(data: bytes | mmap.mmap, start: int, end: int) -> ir.TensorProtocol | None:
    """A tensor with raw data, or ``None`` for another one."""
    head, content = _cut(data, start, end, TENSOR_RAW)
    proto = TensorProto.FromString(head)
    dtype = ir.DataType(proto.data_type)
    if not content or dtype == ir.DataType.STRING or dtype.bitwidth < 8:
        return None
    array = np.frombuffer(content, dtype.numpy()).reshape(proto.dims)
    return ir.Tensor(array, dtype=dtype, name=proto.name)


def _node(data: bytes | mmap.mmap, start: int, end: int) -> tuple[onnx.NodeProto, bytes]:
    """A node without its code, and the code; empty when it has none."""
    kept, code = [], b""
    at = start
    for number, _, low, high in fields(data, start, end):
        if number == NODE_ATTRIBUTE and high - low >= LARGE:
            head, content = _cut(data, low, high, ATTRIBUTE_S)
            if AttributeProto.FromString(head).name == CODE:
                code, at = content, high
                continue
        kept.append(data[at:high])
        at = high
    return onnx.NodeProto.FromString(b"".join(kept)), code


def _cut(data: bytes | mmap.mmap, start: int, end: int, number: int) -> tuple[bytes, bytes]:
    """A message without one of its fields, and what that holds."""
    kept, found = [], b""
    at = start
    for each, _, low, high in fields(data, start, end):
        if each == number:
            found = data[low:high]
        else:
            kept.append(data[at:high])
        at = high
    return b"".join(kept), found


def _taken_from_files(skeleton: onnx.ModelProto, file: Path) -> list[tuple[str, ir.TensorProtocol]]:
    """Put the tensors in other files into the model, but for large weights, which are taken out and mapped."""
    mapped: list[tuple[str, ir.TensorProtocol]] = []
    for proto in [one for one in skeleton.graph.initializer if is_large(one) and _is_outside(one)]:
        mapped.append((proto.name, _in_file(proto, file)))
        skeleton.graph.initializer.remove(proto)
    for proto in filter(_is_outside, tensors(skeleton)):
        found = _in_file(proto, file)
        proto.ClearField("external_data")
        proto.ClearField("data_location")
        proto.raw_data = bytes(raw_bytes(found))
    return mapped


def _is_outside(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _in_file(proto: TensorProto, file: Path) -> ir.TensorProtocol:
    tensor = ir.serde.deserialize_tensor(proto)
    assert isinstance(tensor, ir.ExternalTensor)
    tensor = located(tensor, file)
    tensor.numpy()  # says here what is wrong with the file, and holds on to it
    return tensor


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor in a model: initializers, those of bodies too, however deep, and attributes."""
    inside = [node for function in model.functions for node in function.node]
    waiting: list[Iterator[Any]] = [iter((model.graph, *inside))]
    while waiting:
        one = next(waiting[-1], None)
        if one is None:
            waiting.pop()
        elif isinstance(one, GraphProto):
            yield from one.initializer
            waiting.append(iter(one.node))
        else:
            for attribute in one.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
            waiting.append(iter(bodies(one)))
