"""What the reader of a plan could do about it."""

from __future__ import annotations

import pytest

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.onnx_file.signature import DeclaredValue, check_dims
from ort_rknn_converters.op_support.decide import DYNAMIC
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import TOO_SMALL
from ort_rknn_converters.partition.plan import NodePlacement, Plan
from ort_rknn_converters.pipeline.advice import advice

OPEN = DeclaredValue("x", (1, 3, "h", None))
FIXED = DeclaredValue("x", (1, 3, 8, 8))


def plan(reason: str) -> Plan:
    return Plan("rk3588", "fp16", (NodePlacement("first", "Conv", "CPU", reason),), ())


def test_names_that_met_nothing() -> None:
    options = ConvertOptions(cpu_nodes=frozenset({"frist"}), cpu_ops=frozenset({"Conv", "Relu"}))
    node, op = advice(plan(""), options, [FIXED])
    assert node == "--cpu-node frist met nothing: the model as it is cut has none of that name; did you mean first?"
    assert op == "--cpu-op Relu met nothing: the model as it is cut has none of that name"


def test_open_shapes_are_shown_with_what_to_fill_in() -> None:
    (hint,) = advice(plan(DYNAMIC), ConvertOptions(), [OPEN, DeclaredValue("i", None)])
    assert hint.endswith("--shape x=1x3x<h>x<?> --shape i=...")
    assert not list(advice(plan(DYNAMIC), ConvertOptions(shapes={"x": (1, 3, 8, 8)}), [OPEN]))
    assert not list(advice(plan(DYNAMIC), ConvertOptions(), [FIXED])), "it is a value inside that is open"


def test_the_cost_rule_that_kept_all() -> None:
    (hint,) = advice(plan(TOO_SMALL), ConvertOptions(), [FIXED])
    assert hint.startswith("--min-gain 0 ")


def test_dimensions_that_are_not_there() -> None:
    check_dims({"h": 8}, [OPEN])
    with pytest.raises(UnknownOption, match=r"no input has a dimension called N\. The model's: h"):
        check_dims({"N": 8}, [OPEN])
    with pytest.raises(UnknownOption, match="have none that is named"):
        check_dims({"N": 8}, [FIXED])
