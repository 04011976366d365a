"""The child process that runs the vendor's toolkit: what it delivers, how it fails, and that nothing is left of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ort_rknn_converters.compile.segment_inputs import LazyFeeds
from ort_rknn_converters.errors import ConvertError, ModelError, ToolkitFailed, ToolkitMissing
from ort_rknn_converters.onnx_file.weights import LargeWeights
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.toolkit.compile import CompileRequest, Standby, compile_segment
from tests.helpers.toolkits import real as models

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.toolkit


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of its own, which must be empty again after each test, with no worker left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert list(folder.glob("*/*")) == []  # in this user's own folder
    assert models.workers_in(folder) == []


def test_compiles_and_simulates() -> None:
    model, feed = models.conv()
    lines: list[str] = []
    request = CompileRequest(model, "rk3588", feeds=(feed, {"x": feed["x"] * 2}), custom_string="größer")
    result = compile_segment(request, on_line=lines.append)
    expected = onnxruntime.InferenceSession(model).run(None, feed)[0]
    first, second = (outputs["y"] for outputs in result.outputs)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, expected, atol=5e-3)
    np.testing.assert_allclose(second, 2 * expected, atol=1e-2)
    found = reader.read_rknn(result.rknn)
    assert (found.target, found.custom_string, found.toolkit_version) == ("rk3588", "größer", result.toolkit_version)
    assert {"import", "config", "load", "build", "export", "simulate", "total"} <= set(result.seconds)
    assert sum(result.seconds.values()) < 2.1 * result.seconds["total"]
    assert 50e6 < result.peak_rss < 1e9
    assert (result.no_lowering, result.errors) == ((), ())
    assert (result.dropped_inputs, result.dropped_outputs) == ((), ())
    assert "\n".join(lines) == result.log.rstrip("\n")
    places = {row.op_type: row.target for row in result.layers}
    assert places["InputOperator"] == "CPU"
    assert places["ConvRelu"] == "NPU" if "ConvRelu" in places else places["Conv"] == "NPU"
    compiled = {node.name: node.placement for node in found.nodes}
    assert all(compiled[row.name] == row.target for row in result.layers if row.name)


def test_int8_with_calibration_data() -> None:
    model, feed = models.conv()
    options = {"dataset": [feed, {"x": -feed["x"]}], "quantized_algorithm": "normal", "quantized_method": "channel"}
    result = compile_segment(CompileRequest(model, "rk3588", "int8", feeds=(feed,), options=options))
    expected = onnxruntime.InferenceSession(model).run(None, feed)[0]
    (output,) = reader.read_rknn(result.rknn).outputs
    assert output.quantization is not None
    quanta = result.outputs[0]["y"] / output.quantization.scale[0]
    np.testing.assert_allclose(quanta, np.round(quanta), atol=1e-3)
    assert np.abs(result.outputs[0]["y"] - expected).max() < 4 * output.quantization.scale[0]


def test_a_size_that_does_not_fit_the_npus_registers_is_told() -> None:
    """The box decoder of YOLOv8 at 640x640: it builds and simulates, and a board would compute something else."""
    nodes = [
        helper.make_node("Reshape", ["x", "parts"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Softmax", ["t"], ["m"], axis=1),
        helper.make_node("Conv", ["m", "w"], ["y"]),
    ]
    constants = {"parts": np.array([1, 4, 16, 8400]), "w": np.ones((1, 16, 1, 1), np.float32)}
    model = models.model(nodes, [("x", 1, [1, 64, 8400])], [("y", 1, [1, 1, 4, 8400])], constants)
    errors = compile_segment(CompileRequest(model, "rk3588")).errors
    assert any("bit width of field value exceeds the limit" in error for error in errors)


def test_several_shapes_in_one_file() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Mul", ["r", "r"], ["y"])]
    shape: list[int | str] = ["n", 3, 8, 8]
    model = models.model(nodes, [("x", models.FLOAT, shape)], [("y", models.FLOAT, shape)])
    feeds = tuple({"x": np.ones((batch, 3, 8, 8), np.float32)} for batch in (1, 2))
    options = {"dynamic_input": [[[1, 3, 8, 8]], [[2, 3, 8, 8]]]}
    result = compile_segment(CompileRequest(model, "rk3588", feeds=feeds, options=options))
    assert [outputs["y"].shape[0] for outputs in result.outputs] == [1, 2]
    assert len(reader.read_rknn(result.rknn).subgraphs) == 2


def test_says_what_the_toolkit_dropped_and_keeps_the_names_apart() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Identity", ["c"], ["constant"]),
        helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0),
    ]
    model = models.model(
        nodes,
        [("unused", models.FLOAT, [2]), ("x", models.FLOAT, [3, 4])],
        [("constant", models.FLOAT, [2]), ("sum", models.FLOAT, []), ("y", models.FLOAT, [3, 4])],
        {"c": np.ones(2, np.float32)},
    )
    feed = {"x": np.full((3, 4), 2, np.float32), "unused": np.zeros(2, np.float32)}
    result = compile_segment(CompileRequest(model, "rk3588", feeds=(feed,)))
    assert result.dropped_inputs == ("unused",)
    assert result.dropped_outputs == ("constant",)
    assert result.outputs[0]["sum"].shape == ()
    assert result.outputs[0]["sum"] == 24
    np.testing.assert_array_equal(result.outputs[0]["y"], feed["x"])


def test_four_dimensions_are_not_transposed_and_integers_stay_exact() -> None:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    model = models.model(
        nodes,
        [("ids", TensorProto.INT64, [1, 2, 1, 3]), ("x", TensorProto.DOUBLE, [1, 2, 3, 4])],
        [("y", models.FLOAT, [1, 2, 1, 3, 4]), ("z", TensorProto.DOUBLE, [1, 2, 3, 4])],
        {"table": np.arange(40, dtype=np.float32).reshape(10, 4)},
    )
    feed = {"ids": np.array([[[[0, 9, 3]], [[5, 7, 1]]]]), "x": np.arange(24.0).reshape(1, 2, 3, 4)}
    result = compile_segment(CompileRequest(model, "rk3588", feeds=(feed,)))
    expected = np.arange(40).reshape(10, 4)[feed["ids"]]
    np.testing.assert_array_equal(result.outputs[0]["y"], expected)
    np.testing.assert_array_equal(result.outputs[0]["z"], feed["x"])


def test_names_what_no_board_can_run() -> None:
    model = models.model([helper.make_node("Selu", ["x"], ["y"])], [("x", 1, [3, 4])], [("y", 1, [3, 4])])
    result = compile_segment(CompileRequest(model, "rk3588"))
    assert result.outputs == ()
    assert result.no_lowering == (("y", "Selu"),)


@pytest.mark.parametrize(("model", "name"), [(models.cubic(), "SIGSEGV"), (models.add_uint8(), "SIGABRT")])
def test_a_crash_of_the_compiler_is_an_error_with_its_log(model: bytes, name: str) -> None:
    with pytest.raises(ToolkitFailed, match=rf"crashed during build \({name}\)") as caught:
        compile_segment(CompileRequest(model, "rk3588"))
    assert caught.value.kind == "crashed"
    assert "main.py" in caught.value.log
    assert "Extension modules" not in caught.value.log


def test_a_crash_tells_the_compilers_last_words() -> None:
    with pytest.raises(ToolkitFailed, match="Not Support Dtype: 2"):
        compile_segment(CompileRequest(models.add_uint8(), "rk3588"))


def test_a_refusal_says_why() -> None:
    with pytest.raises(ToolkitFailed, match=r"refused the model during build: .*The input 0 of NonZero") as caught:
        compile_segment(CompileRequest(models.nonzero(), "rk3588"))
    assert caught.value.kind == "refused"


def test_graph_rules_without_end_are_noticed_and_left_out() -> None:
    model = models.rotary()
    feed = {"x": np.random.default_rng(5).standard_normal((1, 16, 32)).astype(np.float32)}
    lines: list[str] = []
    began = time.perf_counter()
    result = compile_segment(CompileRequest(model, "rk3588", feeds=(feed,)), on_line=lines.append)
    assert time.perf_counter() - began < 60
    assert any("undo each other without end" in line for line in lines)
    np.testing.assert_allclose(
        result.outputs[0]["y"], onnxruntime.InferenceSession(model).run(None, feed)[0], atol=1e-2
    )


def test_a_return_code_is_a_refusal_too() -> None:
    model, _ = models.conv()
    with pytest.raises(ToolkitFailed, match=r"refused the model during build: .*rv1106") as caught:
        compile_segment(CompileRequest(model, "rv1106"))
    assert caught.value.kind == "refused"


def test_a_feed_of_the_wrong_shape_is_a_refusal() -> None:
    model, _ = models.conv()
    with pytest.raises(ToolkitFailed, match=r"during simulate: .*shape"):
        compile_segment(CompileRequest(model, "rk3588", feeds=({"x": np.ones((1, 3, 4, 4), np.float32)},)))
    with pytest.raises(ToolkitFailed, match="feed 0 lacks the input"):
        compile_segment(CompileRequest(model, "rk3588", feeds=({"other": np.ones(1, np.float32)},)))


def test_the_time_limit() -> None:
    with pytest.raises(ToolkitFailed, match=r"did not finish within 0.1 s") as caught:
        compile_segment(CompileRequest(models.slow(), "rk3588"), timeout=0.1)
    assert caught.value.kind == "timeout"


def test_too_little_memory(tmp_path: Path) -> None:
    limited = tmp_path / "python"
    python = compile_python()
    limited.write_text(f'#!/bin/sh\nulimit -v 620000\nexec "{python}" "$@"\n')
    limited.chmod(0o755)
    with pytest.raises(ToolkitFailed, match="about 8 times the size of the weights") as caught:
        compile_segment(CompileRequest(models.slow(), "rk3588"), python=str(limited))
    assert caught.value.kind == "memory"


def compile_python() -> str:
    from ort_rknn_converters.toolkit.setup.environment import find_python

    return find_python().python


def test_an_exception_in_the_callers_code_ends_the_child() -> None:
    def refuse(line: str) -> None:
        raise LookupError(line)

    with pytest.raises(LookupError):
        compile_segment(CompileRequest(models.slow(), "rk3588"), on_line=refuse)


def test_ctrl_c_kills_the_child(scratch: Path) -> None:
    code = (
        "import sys; from tests.helpers.toolkits import real as models\n"
        "from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment\n"
        "print('ready', flush=True)\n"
        "compile_segment(CompileRequest(models.slow(), 'rk3588'), on_line=lambda line: print(line, flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'converters'}", "TMPDIR": str(scratch), **home()},
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        for line in program.stdout:
            if "rknn-toolkit2 version" in line:
                break
        assert len(models.workers_in(scratch)) == 1
        program.send_signal(signal.SIGINT)
        errors = program.stderr.read()
        assert program.wait(30) != 0
    assert "KeyboardInterrupt" in errors


def home() -> dict[str, str]:
    import os

    return {
        name: os.environ[name]
        for name in ("HOME", "PATH", "ORT_RKNN_CACHE_DIR", "XDG_CACHE_HOME")
        if name in os.environ
    }


def test_the_child_dies_with_us(scratch: Path) -> None:
    code = (
        "import os, sys; from tests.helpers.toolkits import real as models\n"
        "from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment\n"
        "compile_segment(CompileRequest(models.slow(), 'rk3588'), on_line=lambda line: os.kill(os.getpid(), 9))\n"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'converters'}", "TMPDIR": str(scratch), **home()}
    program = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False)
    assert program.returncode == -signal.SIGKILL
    for pid in models.workers_in(scratch):
        models.wait_for_end(pid)
    (left,) = scratch.glob("*/*")
    models.make_old(left)
    compile_segment(CompileRequest(models.conv()[0], "rk3588"))  # sweeps what the dead one left


def test_a_python_without_the_toolkit() -> None:
    with pytest.raises(ToolkitMissing, match=r"does not start in .*No module named 'rknn'.*ort-rknn toolkit install"):
        compile_segment(CompileRequest(models.conv()[0], "rk3588"), python=sys.executable)
    with pytest.raises(ToolkitMissing, match=r"/nowhere/python cannot be started: No such file"):
        compile_segment(CompileRequest(models.conv()[0], "rk3588"), python="/nowhere/python")


def test_not_onnx() -> None:
    with pytest.raises(ModelError, match="not an ONNX model"):
        compile_segment(CompileRequest(b"\xffnonsense", "rk3588"))


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ort_rknn_converters.toolkit.compile.write_job", full)
    with pytest.raises(ConvertError, match=r"no room to convert in .* set TMPDIR") as caught:
        compile_segment(CompileRequest(models.conv()[0], "rk3588"))
    assert not isinstance(caught.value, ToolkitFailed)


def test_feeds_are_looked_at_when_the_child_has_begun() -> None:
    model, feed = models.conv()
    begun: list[bool] = []

    def make() -> list[dict[str, np.ndarray]]:
        assert begun
        return [feed]

    request = CompileRequest(model, "rk3588", feeds=LazyFeeds(1, make))
    result = compile_segment(request, on_begun=lambda: begun.append(True))
    np.testing.assert_allclose(
        result.outputs[0]["y"], onnxruntime.InferenceSession(model).run(None, feed)[0], atol=5e-3
    )


def test_feeds_that_cannot_be_made_end_the_child() -> None:
    def make() -> list[dict[str, np.ndarray]]:
        raise ModelError("no values")

    with pytest.raises(ModelError, match="no values"):
        compile_segment(CompileRequest(models.conv()[0], "rk3588", feeds=LazyFeeds(1, make)))


def test_a_child_started_ahead_is_used_once() -> None:
    model, feed = models.conv()
    with Standby() as standby:
        first = compile_segment(CompileRequest(model, "rk3588", feeds=(feed,)), standby=standby)
        assert standby.take() is None
        second = compile_segment(CompileRequest(model, "rk3588", feeds=(feed,)), standby=standby)
    np.testing.assert_array_equal(first.outputs[0]["y"], second.outputs[0]["y"])


def test_a_child_started_ahead_for_nothing_is_ended(scratch: Path) -> None:
    with Standby():
        deadline = time.monotonic() + 10
        while not models.workers_in(scratch):  # a process shows its command line a moment after it was started
            assert time.monotonic() < deadline
        assert len(models.workers_in(scratch)) == 1


def test_weights_may_follow_the_model() -> None:
    model, feed = models.conv()
    light = onnx.load_model_from_string(model)
    weight = light.graph.initializer.pop()
    heavy = LargeWeights(((weight.name, ir.serde.deserialize_tensor(weight)),))
    whole = compile_segment(CompileRequest(model, "rk3588", feeds=(feed,)))
    parted = compile_segment(CompileRequest(light.SerializeToString(), "rk3588", feeds=(feed,), weights=heavy))
    np.testing.assert_array_equal(whole.outputs[0]["y"], parted.outputs[0]["y"])
