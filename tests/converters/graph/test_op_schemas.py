from __future__ import annotations

from typing import Any

import pytest

from ort_rknn_converters.graph.op_schemas import carries_over


@pytest.mark.parametrize(
    ("op", "attributes", "written", "wanted", "answer"),
    [
        ("Relu", {}, 22, 14, set()),
        ("Conv", {"group": 2}, 22, 19, set()),
        ("Cast", {"to": 1, "saturate": 1}, 25, 19, set()),
        ("Cast", {"to": 1, "round_mode": "up"}, 25, 19, {"round_mode"}),
        ("QuantizeLinear", {"axis": 1, "block_size": 0}, 23, 19, {"block_size"}),
        ("QuantizeLinear", {"axis": 1, "block_size": 2}, 23, 19, None),
        ("ReduceMean", {}, 18, 13, None),
        ("Softmax", {}, 13, 11, None),
        ("Softmax", {"axis": 1}, 13, 11, set()),
        ("Attention", {}, 23, 19, None),
        ("NoSuchOp", {}, 19, 18, None),
    ],
)
def test_carries_over(op: str, attributes: dict[str, Any], written: int, wanted: int, answer: set[str] | None) -> None:
    assert carries_over(op, attributes, written, wanted) == answer


def test_types_the_other_version_does_not_take() -> None:
    assert carries_over("ReduceMax", {}, 20, 19, ["tensor(float)"]) == frozenset()
    assert carries_over("ReduceMax", {}, 20, 19, ["tensor(bool)"]) is None
    assert carries_over("Concat", {"axis": 0}, 13, 11, ["", "tensor(float)", "tensor(float)"]) == frozenset()
