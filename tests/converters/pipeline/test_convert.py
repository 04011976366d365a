"""The conversion from model to compiled model, with a stand-in for the toolkit; the real one is at the end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import ort_rknn_converters
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import (
    ModelError,
    NotAllOnNpu,
    ToolkitMissing,
    UnknownOption,
    UnknownTarget,
)
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.assemble import Assembly
from ort_rknn_converters.pipeline.convert import convert, plan_only
from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult
from tests.helpers.compiled_models import original
from tests.helpers.conversions import BODY, IMAGE, assert_same, image, model
from tests.helpers.toolkits.scripted import VERSION, ScriptedToolkit


class TestGoodModels:
    def test_all_on_the_npu(self, made: Any) -> None:
        fake = ScriptedToolkit()
        compiled = made(model(), fake)
        assert [step.name for step in compiled.steps] == ["npu_0"]
        assert compiled.plan.npu_share == 1
        assert compiled.targets == ("rk3588",)
        assert compiled.toolkit_version == VERSION
        segment = compiled.plan.segments[0]
        assert segment.rel_rms is not None
        assert segment.rel_rms < 1e-6
        assert segment.seconds == 0.01
        assert segment.size == compiled.npu_steps[0].code["rk3588"].size
        assert len(fake.requests) == 1
        assert len(fake.requests[0].feeds) == 2
        assert_same(compiled, model(), image())

    def test_saved_and_loaded_it_is_the_same(self, made: Any, tmp_path: Path) -> None:
        proto = model(BODY.replace("Tanh", "Asinh"))
        compiled = made(proto)
        assert {step.kind for step in compiled.steps} == {"cpu", "npu"}
        compiled.save(tmp_path / "m.onnx")
        assert CompiledModel.load(tmp_path / "m.onnx") == compiled
        onnx.checker.check_model(str(tmp_path / "m.onnx"))
        assert_same(CompiledModel.load(tmp_path / "m.onnx"), proto, image())

    def test_path_bytes_and_proto(self, made: Any, tmp_path: Path) -> None:
        onnx.save(model(), tmp_path / "m.onnx")
        one = made(model())
        assert made(tmp_path / "m.onnx") == one
        assert made(str(tmp_path / "m.onnx")) == one
        assert made(model().SerializeToString()) == one

    def test_external_data(self, made: Any, tmp_path: Path) -> None:
        onnx.save(model(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        compiled = made(tmp_path / "m.onnx")
        (tmp_path / "w.bin").unlink()
        assert_same(compiled, model(), image())

    def test_everything_on_the_cpu_is_a_model_too(self, made: Any) -> None:
        fake = ScriptedToolkit()
        proto = model("y = Asinh (x)")
        compiled = made(proto, fake)
        assert [step.name for step in compiled.steps] == ["cpu_0"]
        assert not fake.requests
        assert compiled.toolkit_version == ""
        assert any("nothing runs on the NPU" in note for note in compiled.plan.notes)
        assert_same(compiled, proto, image())
        assert ort_rknn_converters.is_compiled(compiled.to_bytes())
        assert CompiledModel.load(compiled.to_bytes()) == compiled

    def test_outputs_that_nothing_computes(self, made: Any) -> None:
        proto = model(
            "y = Asinh (x) c = Constant <value_floats = [1.0, 2.0]> () i = Identity (y) k = Identity (c)",
            outputs=f"{IMAGE} y, float[2] k, {IMAGE} x, {IMAGE} i",
        )
        assert_same(made(proto), proto, image())

    @pytest.mark.parametrize("body", ["y = Relu (x)", "y = Identity (x)"])
    def test_constant_outputs_without_cpu_nodes(self, made: Any, body: str) -> None:
        proto = model(body + " k = Constant <value_floats = [1.0, 2.0]> ()", outputs=f"{IMAGE} y, float[2] k")
        compiled = made(proto)
        assert [step.kind for step in compiled.steps].count("cpu") == 1
        assert_same(compiled, proto, image())

    def test_control_flow_sequences_and_captures(self, made: Any) -> None:
        proto = original()
        feed = {"x": np.ones((1, 3, 8, 8), np.float32), "flag": np.array([False])}
        assert_same(made(proto), proto, feed)

    def test_overridable_initializers_are_constants(self, made: Any) -> None:
        proto = model()
        proto.graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in proto.graph.initializer
        )
        compiled = made(proto)
        assert compiled.plan.npu_share == 1
        assert any("may override" in note for note in compiled.plan.notes)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        stub = ort.InferenceSession(compiled.stub.read(), options)
        assert [value.name for value in stub.get_overridable_initializers()] == ["w", "v"]
        assert [value.name for value in stub.get_inputs()] == ["x"]

    def test_the_shell_is_the_originals(self, made: Any) -> None:
        before = original()
        stub = onnx.ModelProto.FromString(made(before).stub.read())
        assert list(stub.graph.input) == list(before.graph.input)
        assert list(stub.graph.output) == list(before.graph.output)
        assert {e.key: e.value for e in stub.metadata_props} == {e.key: e.value for e in before.metadata_props}
        for name in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
            assert getattr(stub, name) == getattr(before, name)

    def test_pinned_dimensions_are_not_shown(self, made: Any) -> None:
        proto = model("y = Sigmoid (x)", "float[N,4] x", "float[N,4] y")
        assert made(proto).plan.npu_nodes == 0
        compiled = made(proto, dims={"N": 2})
        assert compiled.plan.segments[0].inputs[0].shape == (2, 4)
        stub = onnx.ModelProto.FromString(compiled.stub.read())
        assert stub.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
        assert stub.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "N"

    @pytest.mark.parametrize("jobs", [1, 3])
    def test_segments_compile_side_by_side(self, made: Any, tmp_path: Path, jobs: int) -> None:
        barrier = threading.Barrier(jobs)
        fake = ScriptedToolkit()

        def compile(request: CompileRequest, **options: Any) -> CompileResult:
            barrier.wait(10)
            return fake(request, **options)

        proto = model("a = Sigmoid (x) b = Asinh (a) c = Sigmoid (b) d = Asinh (c) y = Sigmoid (d)")
        compiled = convert(proto, min_gain=0, jobs=jobs, compile=compile, known_failures=tmp_path)
        assert [step.name for step in compiled.steps] == ["npu_0", "cpu_0", "npu_1", "cpu_1", "npu_2"]
        assert_same(compiled, proto, image())

    def test_feeds_of_later_segments_are_real_values(self, made: Any) -> None:
        fake = ScriptedToolkit()
        made(model("a = Abs (x) b = Asinh (a) y = Sigmoid (b)"), fake)
        later = [feed["b"] for request in fake.requests for feed in request.feeds if "b" in feed]
        assert later
        assert all(value.min() >= 0 for value in later)

    def test_what_needs_no_compiler_is_made_while_it_works(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        made, fake = threading.Event(), ScriptedToolkit()
        begin = Assembly.begin

        def noted(*args: Any) -> Any:
            stub = begin(*args)
            made.set()
            return stub

        def compile(request: CompileRequest, **options: Any) -> CompileResult:
            assert not made.is_set()
            options["on_begun"]()
            assert made.wait(10)
            return fake(request, **options)

        monkeypatch.setattr(Assembly, "begin", noted)
        proto = model("a = Sigmoid (x) y = Asinh (a)")
        assert_same(convert(proto, min_gain=0, compile=compile, known_failures=tmp_path), proto, image())

    def test_progress(self, made: Any) -> None:
        seen: list[tuple[str, int, int]] = []

        class Progress:
            def report(self, stage: str, detail: str = "", done: int = 0, total: int = 0) -> None:
                seen.append((stage, done, total))

        made(model(), progress=Progress())
        assert seen == [
            ("load", 0, 0),
            ("prepare", 0, 0),
            ("plan", 0, 0),
            ("compile", 0, 1),
            ("compile", 1, 1),
            ("verify", 0, 0),
            ("assemble", 0, 0),
        ]

    def test_the_package_has_the_function(self, made: Any) -> None:
        assert ort_rknn_converters.convert(model("y = Asinh (x)"), "rk3576").plan.target == "rk3576"


class TestRefusals:
    def test_npu_only(self, made: Any) -> None:
        fake = ScriptedToolkit()
        with pytest.raises(NotAllOnNpu, match=r"1 of 8 nodes must stay on the CPU:\n  Asinh"):
            made(model(BODY.replace("Tanh", "Asinh")), fake, npu_only=True)
        assert not fake.requests
        assert made(model(), npu_only=True).plan.npu_share == 1
        with pytest.raises(NotAllOnNpu, match="Tanh"):
            made(model(), ScriptedToolkit(crashes=frozenset({"Tanh"})), npu_only=True)

    def test_no_toolkit(self, made: Any) -> None:
        missing = ToolkitMissing("get it")
        with pytest.raises(ToolkitMissing, match="get it"):
            made(model(), ScriptedToolkit(fails_with=missing))
        assert made(model("y = Asinh (x)"), ScriptedToolkit(fails_with=missing)).plan.npu_nodes == 0

    def test_ctrl_c(self, made: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            made(model(), ScriptedToolkit(fails_with=KeyboardInterrupt()))

    def test_ctrl_c_with_several_jobs_ends_the_others(self, tmp_path: Path) -> None:
        proto = model("a = Sigmoid (x) b = Asinh (a) y = Sigmoid (b)")
        other_began, ended = threading.Event(), threading.Event()

        def compile(request: CompileRequest, *, cancelled: threading.Event, **_: Any) -> CompileResult:
            if b"\x01a" in request.model and b"\x01b" not in request.model:
                assert other_began.wait(10)
                raise KeyboardInterrupt
            other_began.set()
            assert cancelled.wait(10)
            ended.set()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(proto, min_gain=0, jobs=2, compile=compile, known_failures=tmp_path)
        assert ended.is_set()

    def test_bad_options(self, made: Any) -> None:
        with pytest.raises(UnknownTarget, match="rk3588"):
            made(model(), target="rk9999")
        with pytest.raises(UnknownOption, match="Known options"):
            made(model(), colour="red")
        with pytest.raises(UnknownOption, match="Known options"):
            made(model(), options=ConvertOptions(), colour="red")

    def test_single_options_win(self, made: Any) -> None:
        assert made(model("y = Asinh (x)"), options=ConvertOptions(target="rk3566"), target="rk3576").targets == (
            "rk3576",
        )

    def test_a_compiled_model(self, made: Any) -> None:
        with pytest.raises(ModelError, match="compiled already"):
            made(made(model()).to_bytes())

    @pytest.mark.parametrize("data", [b"", b"\xff\xfe" * 40])
    def test_no_model(self, made: Any, data: bytes, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(data)
        with pytest.raises(ModelError):
            made(tmp_path / "m.onnx")

    def test_no_file(self, made: Any, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            made(tmp_path / "none.onnx")

    def test_an_op_nobody_has(self, made: Any) -> None:
        with pytest.raises(ModelError, match="NoSuchOp"):
            made(model("y = NoSuchOp (x)"))

    def test_shapes_that_contradict(self, made: Any) -> None:
        with pytest.raises(ModelError, match="x"):
            made(model(), shapes={"x": (1, 4, 9)})


def test_plan_only_compiles_nothing(tmp_path: Path) -> None:
    plan = plan_only(model(BODY.replace("Tanh", "Asinh")), "rk3576", min_gain=0, known_failures=tmp_path)
    assert plan.target == "rk3576"
    assert plan.npu_nodes == 7
    assert plan.segments[0].rel_rms is None


@pytest.mark.toolkit
class TestRealToolkit:
    @pytest.mark.parametrize("target", ["rk3588", "rk3576", "rk3566"])
    def test_a_small_cnn(self, target: str, tmp_path: Path) -> None:
        compiled = convert(model(), target, min_gain=0, known_failures=tmp_path)
        assert compiled.plan.npu_share == 1
        assert compiled.plan.segments[0].rel_rms is not None
        assert compiled.plan.segments[0].rel_rms < 5e-3
        assert compiled.npu_steps[0].code[target].read().startswith(b"RKNN")
        compiled.save(tmp_path / "m.onnx")
        assert CompiledModel.load(tmp_path / "m.onnx") == compiled

    def test_a_node_that_really_crashes_the_compiler(self, tmp_path: Path) -> None:
        """The tables know this one (cubic Resize segfaults librknnc); the loop must find it without them."""
        import onnx_ir as ir

        from ort_rknn_converters.partition import partition

        body = 'a = Sigmoid (x) b = Resize <mode = "cubic"> (a, , z) c = Tanh (b) y = Relu (c)'
        proto = model(body, outputs="float[1,4,16,16] y")
        proto.graph.initializer.append(numpy_helper.from_array(np.float32([1, 1, 2, 2]), "z"))
        decide = partition.decide

        def blind(node: ir.Node, target: Any) -> str | None:
            return None if node.op_type == "Resize" else decide(node, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(partition, "decide", blind)
            compiled = convert(proto, min_gain=0, known_failures=tmp_path)
        left = {node.op_type: node.reason for node in compiled.plan.nodes if node.place == "CPU"}
        assert set(left) == {"Resize"}
        assert "crashed" in left["Resize"]
        assert_same(compiled, proto, image())
