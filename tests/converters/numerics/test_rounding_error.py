"""What is wrong only because fp16 rounds: it is put up with, or blamed on the node that decides, without a search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, shape_inference
from onnx.parser import parse_graph

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.numerics.fp16_rounding import round_to_fp16
from ort_rknn_converters.numerics.rounding_error import behind, deciders, rounded_run
from ort_rknn_converters.numerics.tolerance import reference
from ort_rknn_converters.pipeline.convert import convert
from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult
from tests.helpers.toolkits.scripted import ScriptedToolkit

_CHAOS = "".join(f"m{i} = Sub(one, x{i}) p{i} = Mul(x{i}, m{i}) x{i + 1} = Mul(p{i}, four)\n" for i in range(4))
"""Each of its steps doubles an error or more: rounding ends at about one per cent."""


def model(body: str, outputs: str) -> onnx.ModelProto:
    graph = parse_graph(f"g (float[1,4,32,32] x) => ({outputs}) {{ {body} }}")
    constants = {"one": 1.0, "four": 3.999, "far": 32.0}
    graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in constants.items())
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{number}"
    return shape_inference.infer_shapes(proto)


def chaos(after: str = "y = Neg (x4)", outputs: str = "float[1,4,32,32] y") -> onnx.ModelProto:
    return model(f"t = Tanh (x) s = Mul (t, four) n = Neg (s) x0 = Sigmoid (n) {_CHAOS} {after}", outputs)


class Rounding(ScriptedToolkit):
    """A toolkit whose code computes in fp16, ``off`` by more than that."""

    off = 0.0

    def __call__(self, request: CompileRequest, **options: Any) -> CompileResult:
        rounded = round_to_fp16(onnx.load_model_from_string(request.model))
        result = super().__call__(replace(request, model=rounded.SerializeToString()), **options)
        outputs = tuple(
            {n: a + a[np.isfinite(a)].std() * self.off if self.off else a for n, a in one.items()}
            for one in result.outputs
        )
        return replace(result, outputs=outputs)


def on_cpu(compiled: CompiledModel) -> dict[str, str]:
    return {node.op_type: node.reason for node in compiled.plan.nodes if node.place == "CPU"}


def test_errors_that_grow_everywhere_are_put_up_with_and_told(made: Any) -> None:
    fake = Rounding()
    compiled = made(chaos(), fake)
    assert on_cpu(compiled) == {}
    assert len(fake.requests) <= 2  # the second one is the other folding
    [note] = [note for note in compiled.plan.notes if "fp16" in note]
    assert "y by a relative RMS of 0.0" in note
    assert "Our own run of the same nodes" in note
    assert 5e-3 < compiled.plan.segments[0].rel_rms < 4.5e-2


def test_what_is_off_by_more_is_searched_for(made: Any) -> None:
    fake = Rounding()
    fake.off = 0.1
    compiled = made(chaos(), fake)
    assert on_cpu(compiled)
    assert not [note for note in compiled.plan.notes if "Our own run" in note]


def test_few_nodes_are_not_excused(made: Any) -> None:
    compiled = made(model("a = Add (x, far) y = Sub (a, far)", "float[1,4,32,32] y"), Rounding())
    assert "computes something else" in " ".join(on_cpu(compiled).values())


@pytest.mark.parametrize(
    ("after", "outputs", "op"),
    [
        ("y = ArgMax <axis = 3> (x4)", "int64[1,4,32,1] y", "ArgMax"),
        ("b = Greater (x4, x3) y = Not (b)", "bool[1,4,32,32] y", "Greater"),
        ("y = ArgMin <axis = 1> (x4) z = Neg (x4)", "int64[1,1,32,32] y, float[1,4,32,32] z", "ArgMin"),
        (
            "y = ArgMax <axis = 3> (x4) z = GatherElements <axis = 3> (x3, y)",
            "int64[1,4,32,1] y, float[1,4,32,1] z",
            "ArgMax",
        ),
    ],
)
def test_a_decision_is_blamed_on_the_node_that_makes_it(made: Any, after: str, outputs: str, op: str) -> None:
    fake = Rounding()
    compiled = made(chaos(after, outputs), fake)
    said = on_cpu(compiled)
    assert said.pop(op) == f"{op} decides between values so close that rounding to fp16 changes the answer"
    assert set(said) <= {"Not"}
    assert len(fake.requests) <= 4


def test_a_decision_that_rounding_does_not_explain(made: Any) -> None:
    class Next(ScriptedToolkit):
        def __call__(self, request: CompileRequest, **options: Any) -> CompileResult:
            result = super().__call__(request, **options)
            return replace(
                result, outputs=tuple({n: a + (a.dtype == np.int64) for n, a in one.items()} for one in result.outputs)
            )

    # On whole numbers rounding changes nothing.
    compiled = made(model("a = Floor (x) y = ArgMax <axis = 3> (a)", "int64[1,4,32,1] y"), Next())
    assert "computes something else" in on_cpu(compiled)["ArgMax"]


def test_the_nodes_that_decide() -> None:
    proto = model(
        "a = Greater (x, far) b = Less (x, one) c = And (a, b) y = Not (c) i = ArgMax (x) z = Cast <to = 6> (i)",
        "bool[1,4,32,32] y, int32[1,4,32,32] z",
    )
    assert set(deciders(proto, ["y"]).values()) == {"Greater", "Less"}
    assert set(deciders(proto, ["y", "z"]).values()) == {"Greater", "Less", "ArgMax"}
    assert deciders(proto, ["x"]) == {}


def test_the_rounded_run() -> None:
    proto = model("y = Neg (x) i = ArgMax <axis = 3> (x)", "float[1,4,32,32] y, int64[1,4,32,1] i")
    exact = np.random.default_rng(0).normal(size=(1, 4, 32, 32)).astype(np.float32)
    halves = {"x": exact.astype(np.float16).astype(np.float32)}
    rounded = rounded_run(proto, [halves], reference(proto, [halves]))
    assert (rounded.noise, rounded.flipped, rounded.deep) == ({"y": 0.0}, frozenset(), False)
    rounded = rounded_run(proto, [halves, {"x": exact}], reference(proto, [halves, {"x": exact}]))
    assert 1e-4 < rounded.noise["y"] < 5e-4


@pytest.mark.toolkit
def test_with_the_real_toolkit(tmp_path: Any) -> None:
    proto = chaos("y = Neg (x4) i = ArgMax <axis = 3> (x4)", "float[1,4,32,32] y, int64[1,4,32,1] i")
    compiled = convert(proto, min_gain=0, known_failures=tmp_path)
    assert set(on_cpu(compiled)) == {"ArgMax"}
    assert [note for note in compiled.plan.notes if "Our own run" in note]


def test_what_comes_behind_a_decision() -> None:
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["v", "i"], name="TopK"),
        helper.make_node("Gather", ["w", "i"], ["g"], name="Gather"),
        helper.make_node("Relu", ["g"], ["y"], name="Relu"),
        helper.make_node("Relu", ["x"], ["z"], name="other"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert behind(model, {"TopK"}) == {"v", "i", "g", "y"}
    assert behind(model, ()) == set()
