from __future__ import annotations

import pytest

from ort_rknn_converters.op_support.runtime_cpu_ops import placement_trouble
from ort_rknn_converters.targets import find_target


@pytest.mark.parametrize(
    ("op", "place", "soc", "fine"),
    [
        ("Acos", "NPU", "rk3588", True),
        ("Reshape", "CPU", "rk3588", True),
        ("exSoftmax13", "CPU", "rk3566", True),
        ("exDataConvert", "CPU", "rk3588", True),
        ("LRN", "CPU", "rk3588", False),
        ("GridSample", "GPU", "rk3588", False),
        ("Conv", "CPU", "rv1106", False),
        ("Reshape", "CPU", "rv1106", True),
        ("Reshape", "CPU", "rk2118", False),
        ("InputOperator", "CPU", "rk2118", True),
    ],
)
def test_where_the_board_can_run_a_layer(op: str, place: str, soc: str, fine: bool) -> None:
    trouble = placement_trouble(op, place, find_target(soc))
    assert (trouble is None) is fine
    assert trouble is None or trouble.startswith(f"{op}: ")
