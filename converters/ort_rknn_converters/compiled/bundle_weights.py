"""Weights stored once: tensors of one model replaced by references to equal tensors of another, and put back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.schema import TensorProto, ir, onnx
from ort_rknn_converters.onnx_file.split_model import SplitModel, tensors
from ort_rknn_converters.onnx_file.weights import LargeWeights, is_large, raw_bytes, size_of
from ort_rknn_converters.util.frozen import replace

__all__ = ["SharedWeights", "restore", "share"]

LOCATION = "ort_rknn.shared"
"""``location`` of a tensor that is a reference; ``key`` is the other tensor's name."""

_SMALL = 256
"""Bytes up to which a tensor is not worth a reference. A guess; a reference takes about 60."""

_DATA = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data")


class SharedWeights:
    """The tensors of a model that others may refer to, by content."""

    def __init__(self, model: SplitModel) -> None:
        self._names = {_digest(tensor): name for name, tensor in model.initializers().items() if tensor.nbytes > _SMALL}

    def name_of(self, tensor: ir.TensorProtocol) -> str | None:
        """The tensor of equal type, shape and content."""
        return self._names.get(_digest(tensor)) if tensor.nbytes > _SMALL else None


def share(model: SplitModel, weights: SharedWeights) -> SplitModel:
    """``model`` with references in place of everything that ``weights`` has."""
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model.skeleton)
    for proto in tensors(skeleton):
        found = weights.name_of(ir.serde.deserialize_tensor(proto)) if size_of(proto) > _SMALL else None
        if found is not None:
            for kind in _DATA:
                proto.ClearField(kind)
            _refer(proto, found)
    kept = []
    for name, tensor in model.weights.tensors:
        found = weights.name_of(tensor)
        if found is None:
            kept.append((name, tensor))
        else:
            dims = tensor.shape.numpy()
            _refer(skeleton.graph.initializer.add(name=name, data_type=tensor.dtype.value, dims=dims), found)
    return replace(model, skeleton=skeleton, weights=LargeWeights(tuple(kept)))


def restore(model: SplitModel, weights: Mapping[str, ir.TensorProtocol]) -> SplitModel:
    """``model`` with the data of ``weights`` where it refers to them.

    Raises:
        CompiledModelError: A tensor that is referred to is not there.
    """
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model.skeleton)
    large = list(model.weights.tensors)
    for proto in [one for one in skeleton.graph.initializer if is_large(one)]:
        found = _referred(proto, weights)
        if found is not None:
            large.append((proto.name, found))
            skeleton.graph.initializer.remove(proto)
    for proto in tensors(skeleton):
        found = _referred(proto, weights)
        if found is not None:
            proto.ClearField("external_data")
            proto.ClearField("data_location")
            proto.raw_data = bytes(raw_bytes(found))
    return replace(model, skeleton=skeleton, weights=LargeWeights(tuple(large)))


def _referred(proto: TensorProto, weights: Mapping[str, ir.TensorProtocol]) -> ir.TensorProtocol | None:
    """Name that a tensor refers to, or ``None`` when it is no reference."""
    entries = {entry.key: entry.value for entry in proto.external_data}
    if entries.get("location") != LOCATION:
        return None
    found = weights.get(entries.get("key", ""))
    if found is None or found.dtype.value != proto.data_type or found.shape.numpy() != tuple(proto.dims):
        raise CompiledModelError(f"the weight {proto.name} is not in the file. Convert the original ONNX model again")
    return found


def _refer(proto: TensorProto, name: str) -> None:
    proto.data_location = TensorProto.EXTERNAL
    proto.external_data.add(key="location", value=LOCATION)
    proto.external_data.add(key="key", value=name)


def _digest(tensor: ir.TensorProtocol) -> bytes:
    digest = hashlib.sha256(f"{tensor.dtype.value} {list(tensor.shape.numpy())} ".encode())
    digest.update(raw_bytes(tensor))
    return digest.digest()
