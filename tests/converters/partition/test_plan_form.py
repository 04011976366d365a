"""The plan's form knows every field of a plan: whoever adds one is told here, not by users whose caches are refused."""

from __future__ import annotations

from typing import Any

import pytest

from ort_rknn_converters.partition.plan import NodePlacement, Plan, Segment
from ort_rknn_converters.partition.whole_model import OutputError, WholeModel
from ort_rknn_converters.tensor_info import TensorInfo
from ort_rknn_converters.util.plain_data import Misshapen, parse_json

TENSOR = TensorInfo("x", "tensor(float)", (1, "n", None))
PLAN = Plan(
    "rk3588",
    "fp16",
    (NodePlacement("a", "Relu", "NPU", "", "npu_0"), NodePlacement("b", "Loop", "CPU", "recurrent")),
    (Segment("npu_0", ("a",), (TENSOR,), (TENSOR,), 1e-3, 0.1, 2.0, 100, 0.01),),
    ("a note",),
    0.5,
    "records",
    WholeModel((OutputError("y", 0.1, None, "off by 10 %"),), ("y",)),
    {"r": "[1]"},
)


def test_a_whole_plan_comes_back() -> None:
    assert Plan.from_dict(parse_json(PLAN.to_json())) == PLAN


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("nodes", 0, "place"), "<svg onload=x>", "neither NPU nor CPU"),
        (("nodes", 0, "name"), 7, r"nodes\[0\].name"),
        (("segments", 0, "name"), "../../x", r"segments\[0\].name: expected a name such as npu_0"),
        (("segments", 0, "inputs", 0, "dtype"), "tensor(evil)", r"inputs\[0\].dtype"),
        (("segments", 0, "seconds"), "1", r"segments\[0\].seconds"),
        (("whole", "outputs"), None, "whole.outputs"),
        (("notes",), [["a"]], r"notes\[0\]"),
    ],
)
def test_what_is_of_another_form_is_refused_with_its_place(path: tuple[Any, ...], value: Any, said: str) -> None:
    data = parse_json(PLAN.to_json())
    inside: Any = data
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    with pytest.raises(Misshapen, match=said):
        Plan.from_dict(data)
