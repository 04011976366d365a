"""A device that mistakes the layout of some nodes: its answers have the right shape and the wrong order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from ort_rknn.devices.base import AUTO, Context, SegmentCode
from ort_rknn.devices.simulator import SimulatorDevice
from tests.helpers.emulated_npu import Bytes


class SwappingDevice(SimulatorDevice):
    """The simulator, but every Transpose swaps its last two axes once more, as a confused NHWC/NCHW kernel would."""

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> Any:
        assert code.onnx is not None
        model = onnx.load_model_from_string(code.onnx.read())
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Transpose" and attribute.name == "perm":
                    attribute.ints[-2:] = list(attribute.ints)[:-3:-1]
        changed = SegmentCode(**{**vars(code), "onnx": Bytes(model.SerializeToString())})
        return super().open(changed, mask, share)

    def describe(self) -> Mapping[str, Any]:
        return {**super().describe(), "broken": "Transpose"}
