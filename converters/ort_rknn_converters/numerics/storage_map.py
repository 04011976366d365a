"""Storage of each value of a segment on the NPU: int8 on which grid, float16, or not at all, fused into what follows.

The compiled file says it of its own tensors, whose names are those of the ONNX values with something appended
(``logits_mm``, ``y__float16``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    import onnx

    from ort_rknn_converters.rknn_format.values import RknnFile, RknnNode, RknnTensor

__all__ = ["Storage", "StorageMap", "owners"]

_APPENDED = re.compile(r"[-_#/.]")
_CONVERT = "exDataConvert"


def owners(names: Iterable[str], values: Iterable[str]) -> dict[str, str]:
    """Maps the compiler's tensors to the ONNX values they stand for: the longest of which it begins with the name.

    Args:
        names: The compiler's names.
        values: Names in the ONNX graph.
    """
    known = set(values)
    found = {}
    for name in names:
        ends = [len(name), *(match.start() for match in reversed(list(_APPENDED.finditer(name))))]
        owner = next((name[:end] for end in ends if name[:end] in known), None)
        if owner is not None:
            found[name] = owner
    return found


@frozen
class Storage:
    """Storage of a value: int8 on a grid, or float16.

    Attributes:
        scale: One step of the grid, as the float it stands for; ``None`` for float16.
        zero_point: The step that stands for 0.
    """

    scale: float | None = None
    zero_point: int = 0


class StorageMap:
    """Storage of the values of one segment, as the compiled file has it.

    Args:
        graph: The segment's ONNX.
        file: The same segment, compiled.
        fp16: Values that are taken to be float16, with the layers that make them, though the file has them as int8.

    Attributes:
        tensors: The compiler's tensors by name.
        owner: The compiler's tensor -> the ONNX value it stands for.
        base: ONNX value -> the compiler's tensor that holds it.
        maker: ONNX value -> the compiled layer that makes it.
        weights: ONNX constant -> the compiler's tensor that holds it.
        weight_users: Second input of a node -> the node; weights are that.
    """

    def __init__(self, graph: onnx.GraphProto, file: RknnFile, fp16: frozenset[str] = frozenset()) -> None:
        self._fp16 = fp16
        made = {name for node in graph.node for name in node.output if name}
        values = made | {value.name for value in graph.input}
        self.tensors = file.tensors
        # What no layer makes is scratch space of the compiler's.
        running = [name for node in file.nodes for name in node.outputs]
        self._users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for one in graph.node:
            for name in one.input:
                self._users[name].append(one)
        self.weight_users: dict[str, onnx.NodeProto] = {}
        for one in graph.node:
            for name in one.input[1:2]:
                self.weight_users.setdefault(name, one)
        self.owner = owners(running, values)
        self._look_behind_fused(file)
        self.weights: dict[str, RknnTensor] = {}
        stored = [tensor for tensor in self.tensors.values() if tensor.kind == "constant" and len(tensor.dims) > 1]
        for name, weight in owners((one.name for one in stored), (one.name for one in graph.initializer)).items():
            if weight not in self.weights or name == weight:
                self.weights[weight] = self.tensors[name]
        converted = {name for node in file.nodes if node.op_type == _CONVERT for name in node.outputs}
        self.base: dict[str, str] = {}
        for name in running:
            owner = self.owner.get(name)
            if owner is not None and name not in converted and (owner not in self.base or name == owner):
                self.base[owner] = name
        self.maker: dict[str, RknnNode] = {}
        for node in file.nodes:
            for name in node.outputs:
                if name in self.owner and node.op_type != _CONVERT:
                    self.maker.setdefault(self.owner[name], node)

    def _look_behind_fused(self, file: RknnFile) -> None:
        """Renames the output of a layer such as ConvRelu, which may be called after its Conv, to the Relu's."""
        for layer in file.nodes:
            for name in layer.outputs:
                owner = self.owner.get(name, name)
                users = self._users[owner]
                if owner != name and len(users) == 1 and layer.op_type.endswith(users[0].op_type):
                    self.owner[name] = users[0].output[0]

    def storage_of(self, name: str, *, changed: bool = True) -> Storage | None:
        """Storage of one of the compiler's tensors; ``None``: exact.

        Args:
            name: The compiler's name.
            changed: Whether :attr:`fp16` counts.
        """
        if changed and self.owner.get(name) in self._fp16:
            return Storage()
        tensor = self.tensors[name]
        quantization = tensor.quantization
        if tensor.dtype == "int8" and quantization is not None and quantization.zero_point:
            return Storage(quantization.scale[0], quantization.zero_point[0])
        return Storage() if tensor.dtype == "float16" else None

    def layer(self, node: onnx.NodeProto) -> RknnNode | None:
        """The compiled layer that a node went into: the one that makes its output, or the next output after it."""
        for _ in range(len(self._users)):
            found = next((self.maker[name] for name in node.output if name in self.maker), None)
            users = self._users[node.output[0]] if node.output else []
            if found is not None or len(users) != 1:
                return found
            node = users[0]
        return None

    def storage_read(self, node: onnx.NodeProto, value: str) -> Storage | None:
        """Storage in which a node's layer reads a value, where that is not the value's own."""
        layer, base = self.layer(node), self.base.get(value)
        if layer is None:
            return None
        variants = [name for name in layer.inputs if self.owner.get(name) == value]
        if not variants:
            return None
        if value in self._fp16:
            storage = None if self.is_fp16(layer) else self.storage_of(variants[0], changed=False)
            return storage if storage is not None and storage.scale is not None else None
        return self.storage_of(variants[0]) if base not in variants else None

    def is_fp16(self, layer: RknnNode) -> bool:
        """Whether a layer is one of those that are taken to be float16."""
        return any(self.owner.get(name) in self._fp16 for name in layer.outputs)
