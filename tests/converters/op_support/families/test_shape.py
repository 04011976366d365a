from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.pipeline.convert import plan_only
from tests.helpers.op_rule import floats, ints, reason


def test_relabelling_keeps_every_type() -> None:
    for kind in ("float", "int64", "bool"):
        assert reason("Reshape", [(kind, [2, 3]), ints(6)], [(kind, [6])]) is None


def test_a_shape_computed_at_run_time_is_refused() -> None:
    said = reason("Reshape", [("float", [2, 3]), ("int64", [1])], [("float", [6])])
    assert said == "Reshape: input 1 must be a constant"


def test_split_with_an_empty_part_would_be_dropped() -> None:
    said = reason("Split", [("float", [4]), ints(4, 0)], [("float", [4]), ("float", [0])], axis=0)
    assert said is not None


def test_uneven_splits_are_taken_because_lowering_says_their_sizes() -> None:
    parts = [("float", [2]), ("float", [2]), ("float", [1])]
    assert reason("Split", [("float", [5])], parts, num_outputs=3) is None
    assert reason("Split", [("float", [5]), ints(2, 2, 1)], parts) is None


@pytest.mark.parametrize(
    ("source", "result", "taken"),
    [
        ("int64", "float", True),
        ("bool", "float", True),
        ("float", "float16", True),
        ("int64", "int32", True),
        ("float", "int64", False),
        ("float", "bool", False),
        ("int32", "int64", False),
        ("float", "double", False),
        ("float", "string", False),
    ],
)
def test_casts(source: str, result: str, taken: bool) -> None:
    assert (reason("Cast", [(source, [2])], [(result, [2])], to=1) is None) is taken


def test_pad_in_wrap_mode_is_refused_and_with_axes_lowered() -> None:
    image, wide = ("float", [1, 1, 4, 4]), [("float", [1, 1, 4, 8])]
    pads = ints(0, 0, 0, 2, 0, 0, 0, 2)
    assert reason("Pad", [image, pads], wide) is None
    assert reason("Pad", [image, pads], wide, mode="wrap") is not None
    assert reason("Pad", [image, ints(2, 2), None, ints(3)], wide) is None
    assert reason("Pad", [image, ints(2, 2), None, ("int64", [1])], wide) == "Pad: input 3 must be a constant"


def test_depth_to_space_and_back() -> None:
    deep, wide = ("float", [1, 8, 2, 3]), ("float", [1, 2, 4, 6])
    assert reason("DepthToSpace", [deep], [wide], blocksize=2, mode="CRD") is None
    assert reason("SpaceToDepth", [wide], [deep], blocksize=2) is None
    assert reason("SpaceToDepth", [wide], [deep], blocksize=2, mode="CRD") is not None


def test_tile_is_for_batch_one() -> None:
    assert reason("Tile", [("float", [1, 2, 3, 4]), ints(1, 2, 1, 1)], [("float", [1, 4, 3, 4])]) is None
    assert reason("Tile", [("float", [2, 2, 3, 4]), ints(1, 2, 1, 1)], [("float", [2, 4, 3, 4])]) is not None


def test_rank_seven_stays_on_the_cpu() -> None:
    deep = ("float", [1, 2, 1, 2, 1, 2, 1])
    assert reason("Transpose", [deep], [deep], perm=[6, 5, 4, 3, 2, 1, 0]) == "Transpose of rank 7"


def test_what_is_constant_is_nothing_to_compute() -> None:
    said = reason("Transpose", [floats(2, 3)], [("float", [3, 2])])
    assert said is not None
    assert "constants" in said


def test_a_graph_input_with_a_default_is_no_constant() -> None:
    from ort_rknn_converters.op_support.decide import decide
    from ort_rknn_converters.targets import find_target
    from tests.helpers.op_rule import node

    made = node("Reshape", [("float", [2, 3]), np.array([6])], [("float", [6])])
    shape = made.inputs[1]
    assert shape is not None
    made.graph.inputs.append(shape)  # type: ignore[union-attr]
    assert decide(made, find_target("rk3588")) == "Reshape: input 1 must be a constant"


def test_long_rows_that_are_grouped_anew_do_not_fit_the_registers() -> None:
    def said(before: list[int], after: list[int], target: str = "rk3588") -> str | None:
        return reason("Reshape", [("float", before), ints(*after)], [("float", after)], target=target)

    assert "registers" in str(said([1, 64, 8400], [1, 4, 16, 8400]))
    assert "registers" in str(said([1, 4, 16, 8400], [1, 64, 8400]))
    assert said([1, 64, 6400], [1, 4, 16, 6400]) is None
    assert said([1, 64, 8400], [1, 64, 1, 8400]) is None
    assert said([1, 64, 8400], [1, 64, 2, 4200]) is None
    assert said([1, 8400, 64], [1, 8400, 4, 16]) is None
    assert said([1, 64, 8400], [1, 4, 16, 8400], target="rk3576") is None


@pytest.mark.parametrize(("behind", "fits"), [("Softmax", True), ("Relu", False)])
def test_long_rows_before_a_transpose_and_a_softmax_fit(behind: str, fits: bool) -> None:
    body = f"r = Reshape (x, shape) t = Transpose <perm = [0, 2, 1, 3]> (r) y = {behind} (t)"
    graph = parse_graph(f"g (float[1,64,8400] x) => (float[1,16,4,8400] y) {{ {body} }}")
    graph.initializer.append(numpy_helper.from_array(np.array([1, 4, 16, 8400]), "shape"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    plan = plan_only(model, "rk3588", min_gain=0)
    assert [node.place for node in plan.nodes] == ["NPU" if fits else "CPU", "NPU", "NPU"]


@pytest.mark.parametrize("target", ["rk3588", "rk3576", "rk3566"])
def test_splits_of_long_rows_do_not_fit_the_registers(target: str) -> None:
    def said(width: int, axis: int, channels: int = 2) -> str | None:
        part = [1, channels, width] if axis == 1 else [1, 2 * channels, width // 2]
        whole = [1, 2 * channels, width]
        return reason("Split", [("float", whole)], [("float", part)] * 2, target=target, axis=axis)

    assert "registers" in str(said(8400, 1))
    assert said(8192, 1) is None
    assert said(8400, -1) is None
    assert said(8400, 1, channels=64) is None


def test_slices_of_long_rows_do_not_either() -> None:
    def said(whole: list[int], part: list[int], axis: int) -> str | None:
        parameters = [ints(0), ints(part[axis]), ints(axis)]
        return reason("Slice", [("float", whole), *parameters], [("float", part)])

    assert "registers" in str(said([1, 4, 8400], [1, 2, 8400], 1))
    assert said([1, 4, 8192], [1, 2, 8192], 1) is None
    assert said([1, 4, 8400], [1, 4, 84], 2) is None
    assert said([1, 144, 8400], [1, 64, 8400], 1) is None
