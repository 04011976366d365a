from __future__ import annotations

from dataclasses import replace

import pytest

from ort_rknn_converters.partition.plan import CPU, NPU, NodePlacement, Plan, Segment, render_plan
from ort_rknn_converters.tensor_info import TensorInfo

PLAN = Plan(
    "rk3588",
    "fp16",
    (
        NodePlacement("conv", "Conv", NPU, "", "npu_0"),
        NodePlacement("relu", "Relu", NPU, "", "npu_0"),
        NodePlacement("/model/head/NonMaxSuppression", "NonMaxSuppression", CPU, "NonMaxSuppression: dynamic"),
    ),
    (
        Segment(
            "npu_0",
            ("conv", "relu"),
            (TensorInfo("images", "tensor(float)", (1, 3, 640, 640)),),
            (TensorInfo("boxes", "tensor(float)", (1, 84, 8400)),),
            rel_rms=4.03e-4,
            max_abs=0.1,
            seconds=2.4,
            size=8_600_000,
        ),
    ),
    ("2 constants were folded",),
)


def test_the_table_says_what_a_user_wants_to_know() -> None:
    text = str(PLAN)
    assert text.splitlines()[0] == "rk3588 fp16: 2 of 3 nodes (67 %) on the NPU, in 1 segment"
    for piece in ("npu_0", "images float32[1x3x640x640]", "2.4 s", "8.6 MB", "4.0e-04", "NonMaxSuppression: dynamic"):
        assert piece in text
    assert "note: 2 constants were folded" in text
    assert "\x1b" not in text


def test_nothing_is_wider_than_a_hundred_columns() -> None:
    long = NodePlacement("/a/very/long" * 20, "Sign", CPU, "because " * 30)
    wide = tuple(TensorInfo(f"{'/blocks.0/attention' * 4}_{i}", "tensor(int64)", (1, None, "n")) for i in range(9))
    plan = replace(PLAN, nodes=(*PLAN.nodes, long), segments=(replace(PLAN.segments[0], inputs=wide),))
    for line in render_plan(plan, nodes=True).splitlines():
        assert len(line) <= 100
    assert "and 5 more" in render_plan(plan)


def test_every_node_is_listed_on_request() -> None:
    lines = render_plan(PLAN, nodes=True).splitlines()
    assert any("conv" in line and "npu_0" in line for line in lines)
    assert not any(line.startswith("conv") for line in render_plan(PLAN).splitlines())


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan("rk3588", "fp16"), "a model without nodes"),
        (Plan("rk3588", "fp16", PLAN.nodes[2:]), "all 1 node on the CPU"),
        (Plan("rk3588", "fp16", PLAN.nodes[:2], PLAN.segments), "all 2 nodes on the NPU, in 1 segment"),
    ],
)
def test_the_headline_of_extremes(plan: Plan, said: str) -> None:
    assert said in str(plan).splitlines()[0]


def test_where_nothing_was_placed_the_notes_alone_are_said() -> None:
    assert str(Plan("", "", notes=("no NPU",))) == "note: no NPU"
    assert str(Plan("rk3588", "fp16", notes=("open",))) == "rk3588 fp16: nothing is placed\n\nnote: open"
    assert str(Plan("", "", notes=("open",))) == "note: open"


def test_json_and_back() -> None:
    import json

    assert Plan.from_dict(json.loads(PLAN.to_json())) == PLAN


def test_reasons_come_most_frequent_first() -> None:
    nodes = [NodePlacement(f"n{i}", "Sign", CPU, "rare" if i == 0 else "often") for i in range(3)]
    assert list(Plan("rk3588", "fp16", tuple(nodes)).cpu_reasons()) == ["often", "rare"]


def test_estimates_are_said_with_their_source() -> None:
    estimated = replace(
        PLAN, segments=(replace(PLAN.segments[0], estimated_s=0.0123),), estimated_cpu_s=0.02, estimated_by="a guess"
    )
    assert estimated.estimate == "~12 ms on rk3588, by a guess, and ~20 ms on its CPU, by a guess"
    assert str(estimated).splitlines()[1] == estimated.estimate  # one line would be too long
    assert "~12 ms" in str(estimated).split("npu_0", 1)[1].splitlines()[0]
    mine = replace(estimated, estimated_cpu_s=0.0, estimated_by="measured on this board")
    assert mine.estimate == "~12 ms on rk3588, measured on this board"
    short = replace(mine, estimated_by="records")
    assert str(short).splitlines()[0].endswith("in 1 segment, ~12 ms on rk3588, by records")
    assert mine.on_cpu("no NPU").estimate == ""


def test_a_plans_repr_is_one_line() -> None:
    nodes = tuple(NodePlacement(f"n{number}", "Relu", "CPU", reason="too small") for number in range(1000))
    assert repr(Plan("rk3588", "fp16", nodes)) == "<Plan rk3588 fp16: all 1000 nodes on the CPU; print() shows it>"
    assert repr(Plan("", "", notes=("onnxruntime runs it",))) == (
        "<Plan nothing is placed: onnxruntime runs it; print() shows it>"
    )
