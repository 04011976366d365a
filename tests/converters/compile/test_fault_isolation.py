"""Segments that fail: the culprit is found and goes to the CPU, and little else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import ToolkitBroken, ToolkitFailed
from ort_rknn_converters.toolkit.compile import CompileRequest
from tests.helpers.conversions import BODY, assert_same, image, model
from tests.helpers.toolkits.scripted import ScriptedToolkit


class TestFailingSegments:
    """The loop always ends with a model that runs, and blames as little as possible."""

    def reasons(self, compiled: CompiledModel) -> dict[str, str]:
        return {node.op_type: node.reason for node in compiled.plan.nodes if node.place == "CPU"}

    @pytest.mark.parametrize("culprit", ["Tanh", "Sigmoid", "Relu", "Add"])
    def test_a_crash_is_pinned_on_its_node(self, made: Any, culprit: str) -> None:
        fake = ScriptedToolkit(crashes=frozenset({culprit}))
        compiled = made(model(), fake)
        assert self.reasons(compiled) == {culprit: "the toolkit crashed during build (SIGSEGV)"}
        assert_same(compiled, model(), image())
        assert len(fake.requests) < 12

    def test_a_wrong_result_too(self, made: Any) -> None:
        compiled = made(model(), ScriptedToolkit(wrong=frozenset({"Tanh"})))
        assert list(self.reasons(compiled)) == ["Tanh"]
        assert "computes something else" in self.reasons(compiled)["Tanh"]
        assert_same(compiled, model(), image())

    def test_a_difference_takes_its_mean_along(self, made: Any) -> None:
        body = "h = Conv (x, v) m = ReduceMean <axes = [1]> (h) d = Sub (h, m) y = Sigmoid (d)"
        compiled = made(model(body), ScriptedToolkit(wrong=frozenset({"Sub"})))
        found = self.reasons(compiled)
        assert set(found) == {"Sub", "ReduceMean"}
        assert found["ReduceMean"] == f"{found['Sub']} (of which it is an operand)"

    def test_several_culprits(self, made: Any) -> None:
        fake = ScriptedToolkit(crashes=frozenset({"Tanh"}), wrong=frozenset({"Sigmoid"}), unlowered=frozenset({"Add"}))
        compiled = made(model(), fake)
        assert set(self.reasons(compiled)) == {"Tanh", "Sigmoid", "Add"}
        assert_same(compiled, model(), image())

    def test_no_lowering_needs_no_search(self, made: Any) -> None:
        fake = ScriptedToolkit(unlowered=frozenset({"Tanh"}))
        compiled = made(model(), fake)
        assert self.reasons(compiled) == {"Tanh": "Tanh: the compiler has no lowering"}
        assert len(fake.requests) == 2 + 1

    def test_a_size_beyond_the_registers_is_searched_for(self, made: Any) -> None:
        compiled = made(model(), ScriptedToolkit(overflows=frozenset({"Tanh"})))
        assert set(self.reasons(compiled)) == {"Tanh"}
        assert "does not fit the NPU's registers" in self.reasons(compiled)["Tanh"]
        assert_same(compiled, model(), image())

    def test_a_layer_the_board_does_not_know(self, made: Any) -> None:
        compiled = made(model(), ScriptedToolkit(on_cpu={"Tanh": "exStrange", "Relu": "Relu6"}))
        assert set(self.reasons(compiled)) == {"Tanh", "Relu"}
        assert "exStrange" in self.reasons(compiled)["Tanh"]

    def test_documented_cpu_layers_are_welcome(self, made: Any) -> None:
        assert made(model(), ScriptedToolkit(on_cpu={"Tanh": "Tanh", "Relu": "Reshape"})).plan.npu_share == 1

    def test_a_refusal_that_names_its_node(self, made: Any) -> None:
        fake = ScriptedToolkit(refuses={"Tanh": "the toolkit refused the model: op 'e' is not supported"})
        compiled = made(model(), fake)
        assert list(self.reasons(compiled)) == ["Tanh"]
        assert len(fake.requests) == 3

    def test_nodes_that_do_not_bear_each_other(self, made: Any) -> None:
        compiled = made(model(), ScriptedToolkit(pairs=(("Sigmoid", "Tanh"),)))
        assert list(self.reasons(compiled)) == ["Tanh"]
        assert "together with what comes before" in self.reasons(compiled)["Tanh"]
        assert_same(compiled, model(), image())

    @pytest.mark.parametrize("kind", ["timeout", "memory"])
    def test_no_search_where_every_try_is_dear(self, made: Any, kind: Any) -> None:
        fake = ScriptedToolkit(fails_with=ToolkitFailed("too much", kind=kind))
        compiled = made(model(), fake)
        assert compiled.plan.npu_nodes == 0
        assert len(fake.requests) == 1
        assert_same(compiled, model(), image())

    def test_when_everything_fails_it_ends_on_the_cpu(self, made: Any) -> None:
        fake = ScriptedToolkit(fails_with=ToolkitFailed("never", kind="refused"))
        compiled = made(model(), fake)
        assert compiled.plan.npu_nodes == 0
        assert_same(compiled, model(), image())

    def test_overflow_is_said_and_found(self, made: Any) -> None:
        proto = model("a = Mul (x, x) b = Exp (a) c = Neg (b) y = Sigmoid (c)")

        class Fp16(ScriptedToolkit):
            def _answers(self, request: CompileRequest, *, spoil: bool) -> tuple[dict[str, np.ndarray], ...]:
                with np.errstate(over="ignore"):
                    return tuple(
                        {name: value.astype(np.float16).astype(np.float32) for name, value in answer.items()}
                        for answer in super()._answers(request, spoil=spoil)
                    )

        compiled = made(proto, Fp16())
        assert_same(compiled, proto, image())
        assert "beyond fp16's 65504" in self.reasons(compiled)["Exp"]

    def test_near_fp16s_limit_it_is_the_cpu(self, made: Any) -> None:
        assert not self.reasons(made(model("a = Exp (x) b = Mul (a, a) y = Sigmoid (b)")))
        big = model("a = Abs (x) b = Mul (a, h) y = Sqrt (b)")
        big.graph.initializer.append(numpy_helper.from_array(np.float32([10000.0]), "h"))
        reasons = self.reasons(made(big))
        assert set(reasons) == {"Mul", "Sqrt"}
        assert reasons["Sqrt"].startswith("its input b reaches")

    def test_verdicts_are_remembered(self, made: Any) -> None:
        made(model(), ScriptedToolkit(crashes=frozenset({"Tanh"})))
        second = ScriptedToolkit(crashes=frozenset({"Tanh"}))
        compiled = made(model(BODY.replace("Relu (g)", "Sigmoid (g)")), second)
        assert list(self.reasons(compiled)) == ["Tanh"]
        assert len(second.requests) == 2

    def test_a_weights_value_blames_no_other_model(self, made: Any) -> None:
        """The compiler chokes on one weight, not on the layer."""

        class Chokes(ScriptedToolkit):
            def __call__(self, request: CompileRequest, **how: Any) -> Any:
                weights = [
                    numpy_helper.to_array(t)
                    for t in onnx.ModelProto.FromString(b"".join((request.model, *request.weights))).graph.initializer
                ]
                if any(np.abs(weight).max(initial=0) > 1e30 for weight in weights if weight.dtype.kind == "f"):
                    self.requests.append(request)
                    raise ToolkitFailed("the toolkit crashed during build (SIGSEGV)", kind="crashed")
                return super().__call__(request, **how)

        bad = model()
        weight = next(tensor for tensor in bad.graph.initializer if tensor.name == "w")
        values = numpy_helper.to_array(weight).copy()
        values[0, 0, 0, 0] = 3e38
        weight.CopyFrom(numpy_helper.from_array(values, "w"))
        assert "Conv" in self.reasons(made(bad, Chokes()))
        good = Chokes()
        assert made(model(), good).plan.npu_share == 1
        assert len(good.requests) == 1

    def test_a_shape_that_fails_with_any_weight_is_remembered(self, made: Any) -> None:
        made(model("y = Conv <pads = [1, 1, 1, 1]> (x, w)"), ScriptedToolkit(crashes=frozenset({"Conv"})))
        second = ScriptedToolkit()
        other = model("a = Conv <pads = [1, 1, 1, 1]> (x, w) y = Relu (a)")
        other.graph.initializer[0].CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(other.graph.initializer[0]) * 2, "w")
        )
        assert "Conv" in self.reasons(made(other, second))

    def test_values_of_the_inputs_blame_no_other_model(self, made: Any) -> None:
        """What is wrong on the values this model gives an op says nothing of the op."""

        class WrongForLarge(ScriptedToolkit):
            def _answers(self, request: CompileRequest, *, spoil: bool) -> tuple[dict[str, np.ndarray], ...]:
                ops = {node.op_type for node in onnx.ModelProto.FromString(request.model).graph.node}
                large = any(np.abs(array).max(initial=0) > 50 for feed in request.feeds for array in feed.values())
                return super()._answers(request, spoil=spoil or (large and "Erf" in ops))

        proto = model("a = Mul (x, h) d = Erf (a) y = Relu (d)")
        proto.graph.initializer.append(numpy_helper.from_array(np.float32([100.0]), "h"))
        reasons = self.reasons(made(proto, WrongForLarge(), cpu_ops=("Mul",)))
        assert "computes something else" in reasons["Erf"]
        assert made(model("d = Erf (x) y = Relu (d)"), WrongForLarge()).plan.npu_share == 1

    @pytest.mark.parametrize("kind", ["timeout", "memory", "killed"])
    def test_what_depends_on_the_moment_is_no_verdict(self, made: Any, kind: Any, tmp_path: Path) -> None:
        compiled = made(model(), ScriptedToolkit(fails_with=ToolkitFailed("not now", kind=kind)))
        assert compiled.provisional == "not now"
        assert any("another conversion may bring more" in note for note in compiled.plan.notes)
        assert not (tmp_path / "verdicts.json").exists()
        again = made(model(), ScriptedToolkit())
        assert again.plan.npu_share == 1
        assert not again.provisional

    def test_npu_only_says_that_it_was_the_moment(self, made: Any) -> None:
        fake = ScriptedToolkit(fails_with=ToolkitFailed("not now", kind="memory"))
        with pytest.raises(ToolkitFailed, match="not all is on the NPU: not now") as caught:
            made(model(), fake, npu_only=True)
        assert caught.value.passing


class TestSuspicion:
    """Where nothing compiles, the toolkit is asked for what it must be able to do."""

    def test_a_toolkit_that_fails_on_anything(self, made: Any, tmp_path: Path) -> None:
        fake = ScriptedToolkit(fails_with=ToolkitFailed("the toolkit refused the model: No module", kind="refused"))

        def prove() -> None:
            raise ToolkitFailed("the toolkit refused the model: No module", kind="refused")

        with pytest.raises(ToolkitBroken, match=r"does not work: .*No module.*fails on a model of two nodes, too"):
            made(model(), fake, prove=prove)
        assert len(fake.requests) == 1
        assert not (tmp_path / "verdicts.json").exists()

    def test_a_toolkit_that_works(self, made: Any) -> None:
        asked: list[int] = []
        fake = ScriptedToolkit(crashes=frozenset({"Tanh"}))
        compiled = made(model(), fake, prove=lambda: asked.append(1))
        assert [node.op_type for node in compiled.plan.nodes if node.place == "CPU"] == ["Tanh"]
        assert asked == [1]

    def test_one_that_compiled_something_is_not_suspected(self, made: Any) -> None:
        proto = model("a = Tanh (x) b = Hardmax (a) y = Relu (b)")
        asked: list[int] = []
        made(proto, ScriptedToolkit(crashes=frozenset({"Tanh"})), cpu_ops=("Hardmax",), prove=lambda: asked.append(1))
        assert not asked


class TestOtherModels:
    def reasons(self, compiled: CompiledModel) -> dict[str, str]:
        return {node.op_type: node.reason for node in compiled.plan.nodes if node.place == "CPU"}

    def test_verdicts_of_another_soc_do_not_count(self, made: Any) -> None:
        made(model(), ScriptedToolkit(crashes=frozenset({"Tanh"})))
        assert made(model(), target="rk3576").plan.npu_share == 1
