from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from benchmarks.partition import residual, tangled
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import CONSTANT, partition, planned_steps
from ort_rknn_converters.partition.plan import CPU, NPU, Plan
from ort_rknn_converters.pipeline.prepare import prepare
from ort_rknn_converters.targets import find_target
from tests.helpers.graph_builders import chain, tangle

RK3588 = find_target("rk3588")


def plan_of(model: ir.Model, known_failures: dict[str, str] | None = None, **options: object) -> Plan:
    return partition(model, RK3588, ConvertOptions.of(**{"min_gain": 0, **options}), known_failures)


def parsed(text: str) -> ir.Model:
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), data_prop=True)
    model = onnx_graph.load(proto)
    onnx_graph.name_nodes(model)
    return model


def places(plan: Plan) -> str:
    return "".join("n" if node.place == NPU else "c" for node in plan.nodes)


def test_the_plan_says_place_segment_and_reason() -> None:
    plan = plan_of(chain("a = Relu(x)", "b = Sign(a)", "y = Add(a, b)"))
    assert places(plan) == "ncn"
    assert [node.segment for node in plan.nodes] == ["npu_0", None, "npu_1"]
    assert plan.nodes[1].reason == "Sign: the compiler has no lowering"
    assert [segment.name for segment in plan.segments] == ["npu_0", "npu_1"]
    assert [value.name for value in plan.segments[1].inputs] == ["a", "b"]
    assert plan.segments[0].inputs[0].shape == (1, 8, 64, 64)
    assert plan.segments[0].inputs[0].dtype == "tensor(float)"


def test_options_and_verdicts_keep_nodes_on_the_cpu() -> None:
    model = chain("a = Relu(x)", "b = Tanh(a)", "y = Neg(b)")
    assert places(plan_of(model, cpu_ops={"Tanh"})) == "ncn"
    assert places(plan_of(model, cpu_nodes={"a"})) == "cnn"
    assert plan_of(model, cpu_nodes={"a"}).nodes[0].reason == "kept on the CPU by option"
    assert plan_of(model, {"y": "crashed the compiler"}).nodes[2].reason == "crashed the compiler"


def test_a_soc_without_fp16_says_what_it_needs_instead() -> None:
    options, small = ConvertOptions(target="rv1103", min_gain=0), find_target("rv1103")
    (reason,) = {node.reason for node in partition(chain("y = Relu(x)"), small, options).nodes}
    assert reason == "rv1103 computes in int8 only, quantized by the toolkit: --int8 with --calibration"


def test_a_rewrite_that_does_not_hold_is_not_kept_in_part() -> None:
    model = prepare(chain("a = Relu(x)", "b = Ceil(a)", "y = Relu(b)")).model
    assert [node.op_type for node in model.graph] == ["Relu", "Neg", "Floor", "Neg", "Relu"]
    assert places(plan_of(model)) == "nnnnn"
    plan = plan_of(model, {"b/Floor": "wrong"})
    assert places(plan) == "ncccn"
    part = "part of a rewritten Ceil, of which Floor must stay on the CPU"
    assert [node.reason for node in plan.nodes[1:4]] == [part, "wrong", part]


def test_what_is_worth_it_stays_where_its_rewrite_does_not_hold() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23]> g (float[1,4,16,32] q, float[1,4,16,32] k, float[1,4,16,32] v)
        => (float[1,4,16,32] y) { y = Attention (q, k, v) }"""
    model = prepare(parsed(text)).model
    mul = next(node for node in model.graph if node.op_type == "Mul")
    plan = plan_of(model, {mul.name or "": "wrong"})
    assert [node.op_type for node in plan.nodes if node.place == CPU] == ["Mul"]


def test_islands_too_small_stay_on_the_cpu_unless_the_rule_is_off() -> None:
    model = chain("y = Add(x, x)", shape=(1, 8))
    assert places(plan_of(model)) == "n"
    small = plan_of(model, min_gain=1.0)
    assert places(small) == "c"
    assert small.nodes[0].reason == "too small to pay for the trip to the NPU"


def test_plumbing_does_not_pay() -> None:
    model = chain("a = Transpose(x)", "y = Transpose(a)", shape=(64, 64))
    assert plan_of(model, min_gain=1.0).nodes[0].reason.startswith("only moves data")
    assert places(plan_of(model)) == "nn"


def test_plumbing_from_edge_to_edge_leaves_its_segment() -> None:
    big = (1, 512, 512)
    lines = [f"m{i} = MatMul({'x' if not i else f'm{i - 1}'}, w)" for i in range(6)]
    model = chain(*lines, "s = Transpose(x)", "t = Sign(s)", inputs="x w", outputs="m5 t", shape=big)
    options, target = ConvertOptions(target="rk3566"), find_target("rk3566")
    assert places(partition(model, target, options)) == "nnnnnncc"


def test_products_that_lose_on_the_npu_stay_on_the_cpu_with_that_reason() -> None:
    lines = [f"m{i} = MatMul({'x' if not i else f'm{i - 1}'}, w)" for i in range(6)]
    model = chain(*lines, inputs="x w", outputs="m5", shape=(1, 256, 256))
    plan = plan_of(model, min_gain=1.0)  # rk3588: about as many GFLOP/s on either side, and the trip on top
    assert places(plan) == "cccccc"
    assert plan.nodes[0].reason == "slower on the NPU than on the CPU, by records: mostly its MatMul"
    assert plan.estimate == ""
    assert places(plan_of(model)) == "nnnnnn"


def test_the_plan_estimates_its_time() -> None:
    model = chain("y = MatMul(x, w)", inputs="x w", outputs="y", shape=(1, 1024, 1024))
    plan = plan_of(model)
    assert plan.estimated_by == "records"
    # 2.1 GFLOP at 80 a second, 8.4 MB in at 0.33 GB/s and 4.2 MB out at 1.7 GB/s.
    assert plan.segments[0].estimated_s == pytest.approx(26.8e-3 + 25.4e-3 + 2.5e-3, rel=0.02)
    assert str(plan).splitlines()[0].endswith("in 1 segment, ~55 ms on rk3588, by records")
    assert plan.to_dict()["estimate"] == "~55 ms on rk3588, by records"
    assert Plan.from_dict(plan.to_dict()) == plan


def test_pass_through_outputs_are_not_left_to_the_toolkit() -> None:
    plan = plan_of(chain("a = Identity(x)", "b = Relu(x)", outputs="a b"))
    assert places(plan) == "cn"
    assert "passes a value through" in plan.nodes[0].reason


def test_duplicate_outputs_are_not_left_to_the_toolkit() -> None:
    plan = plan_of(chain("a = Relu(x)", "b = Identity(a)", outputs="a b"))
    assert places(plan) == "nc"
    assert [value.name for value in plan.segments[0].outputs] == ["a"]


def test_an_identity_inside_stays_inside() -> None:
    assert places(plan_of(chain("a = Relu(x)", "b = Identity(a)", "y = Tanh(b)"))) == "nnn"


def test_positions_computed_from_floats_stay_on_the_cpu_with_their_arithmetic() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        agraph (float[1,4] x, float[9000,8] table) => (float[1,4,8] y) <float scale = {9000.0}> {
            r = Relu(x)
            m = Mul(r, scale)
            f = Floor(m)
            i = Cast<to = 7>(f)
            y = Gather(table, i)
        }""")
    plan = plan_of(model)
    reasons = {node.op_type: node.reason for node in plan.nodes}
    assert {reasons[op] for op in ("Relu", "Mul", "Floor")} == {"index computed in fp16 would be wrong above 2048"}
    assert reasons["Cast"]
    assert not reasons["Gather"]


def test_values_captured_by_bodies_are_outputs_of_their_segment() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        agraph (float[2] x, bool c) => (float[2] y) {
            a = Relu(x)
            b = Tanh(a)
            z = If(c) <then_branch = t () => (float[2] p) { p = Add(a, b) },
                       else_branch = e () => (float[2] q) { q = Neg(b) }>
            y = Neg(z)
        }""")
    plan = plan_of(model)
    assert places(plan) == "nncn"
    assert [value.name for value in plan.segments[0].outputs] == ["a", "b"]
    assert plan.nodes[2].reason == "control flow"
    steps = planned_steps(model, plan)
    assert [(step.name, step.inputs, step.outputs) for step in steps] == [
        ("npu_0", ("x",), ("a", "b")),
        ("cpu_0", ("c", "a", "b"), ("z",)),
        ("npu_1", ("z",), ("y",)),
    ]


def test_unused_nodes_are_not_sent_to_the_npu() -> None:
    plan = plan_of(chain("y = Relu(x)", "a = Sign(x)", "z = Tanh(a)"))
    assert places(plan) == "ncc"
    assert plan.nodes[2].reason == "its result is never used"


def test_a_weight_in_integers_goes_where_its_product_goes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[4, 2] x) => (float[4, 3] y)
        <int8[2, 3] w = {1, 2, 3, 4, 5, 6}, float scale = {0.5}>
        { a = Relu(x)  d = DequantizeLinear(w, scale)  y = MatMul(a, d) }"""
    assert places(plan_of(parsed(text))) == "nnn"
    plan = plan_of(parsed(text), cpu_ops=frozenset({"MatMul"}))
    assert [node.reason for node in plan.nodes] == ["", CONSTANT, "kept on the CPU by option"]


def test_a_value_of_unknown_type_is_not_cut_at() -> None:
    model = chain("a = Sign(x)", "b = Relu(a)", "c = Sign(b)", "y = Add(a, c)")
    assert places(plan_of(model)) == "cncn"
    model.graph[0].domain = "com.example"
    model.graph[0].outputs[0].type = None
    model.graph[1].replace_input_with(0, model.graph.inputs[0])
    plan = plan_of(model)
    assert places(plan) == "cccc"
    assert plan.nodes[1].reason == "the type of 'a' is unknown, so the graph cannot be cut there"


def test_a_model_without_nodes_has_an_empty_plan() -> None:
    plan = plan_of(chain(outputs="x"))
    assert (plan.nodes, plan.segments) == ((), ())
    assert planned_steps(chain(outputs="x"), plan) == ()


def test_moving_dimensions_keep_a_model_on_the_cpu() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        agraph (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }""")
    assert plan_of(model).nodes[0].reason == "dynamic shape"


@pytest.mark.parametrize("seed", range(20))
def test_parts_feed_each_other_and_give_all_outputs(seed: int) -> None:
    model = tangle(seed)
    plan = plan_of(model)
    known = {"x", "w"}
    names: list[str] = []
    for part in planned_steps(model, plan):
        assert set(part.inputs) <= known
        known |= set(part.outputs)
        names += part.nodes
        assert part.place == (NPU if part.name.startswith("npu") else CPU)
    assert {value.name for value in model.graph.outputs} <= known
    assert sorted(names) == sorted(node.name for node in plan.nodes)


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python ``work`` executes: a measure of work that no busy machine disturbs."""
    count = 0

    def trace(*_: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("build", [residual, tangled])
def test_work_grows_with_the_number_of_nodes(build: Callable[[int], ir.Model]) -> None:
    small, large = build(300), build(900)
    plan_of(build(10))  # what is made once is not counted
    assert lines_run(lambda: plan_of(large)) < 1.2 * 3 * lines_run(lambda: plan_of(small))  # 1.02 seen; quadratic is 3


def test_initializers_are_no_inputs_of_a_segment() -> None:
    model = chain("a = Relu(x)", "y = Tanh(a)")
    weight = ir.Value(name="w", const_value=ir.tensor(np.ones((1, 8, 64, 64), np.float32), name="w"))
    model.graph.initializers.add(weight)
    added = ir.Node("", "Add", [model.graph[0].outputs[0], weight], num_outputs=1, name="added")
    added.outputs[0].name, added.outputs[0].dtype = "added", ir.DataType.FLOAT
    added.outputs[0].shape = ir.Shape((1, 8, 64, 64))
    weight.dtype, weight.shape = ir.DataType.FLOAT, ir.Shape((1, 8, 64, 64))
    model.graph.insert_after(model.graph[0], added)
    model.graph[2].replace_input_with(0, added.outputs[0])
    assert [value.name for value in plan_of(model).segments[0].inputs] == ["x"]


def test_what_is_mostly_on_the_cpu_goes_by_its_work() -> None:
    text = chain("a = Sign(x)", "b = MatMul(a, a)", "y = Sign(b)")
    plan = plan_of(text, cpu_ops=["MatMul"])
    assert next(iter(plan.cpu_reasons())) == "Sign: the compiler has no lowering"
    assert plan.mostly == plan.main_reason == "kept on the CPU by option"
    assert Plan.from_dict(plan.to_dict()).main_reason == plan.main_reason
