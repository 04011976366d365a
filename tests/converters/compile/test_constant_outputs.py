from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.compile.constant_outputs import find_constant_outputs
from ort_rknn_converters.pipeline.convert import convert

BOXES = np.arange(8, dtype=np.float32).reshape(1, 2, 4) * 100
SCORES = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4)


def model(body: str, output: str) -> onnx.ModelProto:
    graph = parse_graph(f"g (float[1,2,4] b, float[1,3,4] s) => (float[{output}] y) <float[1,5,4] c> {{ {body} }}")
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(array: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{"y": array}]


def both() -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores in one tensor, as they should be and with all scores rounded to zero."""
    return np.concatenate([BOXES, SCORES], 1), np.concatenate([BOXES, SCORES * 0], 1)


def test_a_part_of_a_concat() -> None:
    want, got = both()
    (found,) = find_constant_outputs(model("y = Concat <axis = 1> (b, s)", "1,5,4"), answers(want), answers(got))
    assert (found.output, found.concat, found.part, found.after) == ("y", "Concat_0", "s", ())
    assert "share one scale" in str(found)


@pytest.mark.parametrize(
    ("body", "output", "change"),
    [
        ("c = Concat <axis = 1> (b, s) y = Transpose <perm = [0, 2, 1]> (c)", "1,4,5", lambda a: a.transpose(0, 2, 1)),
        ("c = Concat <axis = 1> (b, s) y = Flatten <axis = 1> (c)", "1,20", lambda a: a.reshape(1, 20)),
    ],
)
def test_a_part_that_moved_afterwards(body: str, output: str, change: Any) -> None:
    want, got = (change(array) for array in both())
    (found,) = find_constant_outputs(model(body, output), answers(want), answers(got))
    assert (found.concat, found.part) == ("Concat_0", "s")
    assert len(found.after) == 1


def test_a_whole_output() -> None:
    want, _ = both()
    (found,) = find_constant_outputs(model("y = Concat <axis = 1> (b, s)", "1,5,4"), answers(want), answers(want * 0))
    assert (found.concat, str(found)) == (
        "",
        "quantized to int8, output y is constant, which it is not in ONNX Runtime",
    )


def test_what_is_constant_anyway_is_no_loss() -> None:
    want = np.concatenate([BOXES, SCORES * 0], 1)
    assert not find_constant_outputs(model("y = Concat <axis = 1> (b, s)", "1,5,4"), answers(want), answers(want))


def test_an_output_that_only_differs() -> None:
    want, _ = both()
    assert not find_constant_outputs(model("y = Concat <axis = 1> (b, s)", "1,5,4"), answers(want), answers(want + 1))


def detector() -> onnx.ModelProto:
    random = np.random.default_rng(1)
    body = """a = Conv <pads = [1, 1, 1, 1], strides = [4, 4]> (x, w1) b = Relu (a) c = Conv (b, w2) d = Reshape (c, s1)
        boxes = Mul (d, k) e = Conv (b, w3) f = Reshape (e, s2) scores = Sigmoid (f)
        both = Concat <axis = 1> (boxes, scores) y = Transpose <perm = [0, 2, 1]> (both)"""
    graph = parse_graph(f"g (float[1,3,32,32] x) => (float[1,64,10] y) {{ {body} }}")
    weights = {"w1": (16, 3, 3, 3), "w2": (4, 16, 1, 1), "w3": (6, 16, 1, 1)}
    constants: dict[str, np.ndarray] = {
        name: (random.normal(size=shape) / 4).astype(np.float32) for name, shape in weights.items()
    }
    constants |= {"k": np.array(640, np.float32), "s1": np.array([1, 4, 64]), "s2": np.array([1, 6, 64])}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.toolkit
def test_boxes_and_scores_part_before_they_share_a_scale(tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (10, 1, 3, 32, 32)).astype(np.float32)
    fields: dict[str, Any] = {"calibration": {"x": images}, "min_gain": 0, "known_failures": tmp_path}
    plan = convert(detector(), precision="int8", **fields).plan
    assert {node.op_type for node in plan.nodes if node.place == "CPU"} == {"Concat", "Transpose"}
    assert all("scores is constant after the Concat" in node.reason for node in plan.nodes if node.place == "CPU")
    assert {output.name for output in plan.segments[0].outputs} == {"boxes", "scores"}
    assert convert(detector(), min_gain=0, known_failures=tmp_path).plan.npu_share == 1


def test_parts_of_unknown_rank_cannot_be_told_apart() -> None:
    want, got = both()
    concat = model("y = Concat <axis = 1> (b, s)", "1,5,4")
    concat.graph.input[1].type.tensor_type.ClearField("shape")
    assert not find_constant_outputs(concat, answers(want), answers(got))
