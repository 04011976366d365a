"""``ort-rknn convert``: files, tables, exit codes."""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.cli.convert import command
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.toolkit.setup.environment import MISSING
from tests.helpers.toolkits.scripted import ScriptedToolkit

pytestmark = pytest.mark.usefixtures("toolkit")
ROOT = Path(__file__).resolve().parents[3]


def net(body: str = "a = Sigmoid (x) b = Asinh (a) y = Tanh (b)", size: str = "2,8") -> onnx.ModelProto:
    graph = parse_graph(f"g (float[{size}] x) => (float[{size}] y) {{ {body} }}")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(net(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


class TestDone:
    def test_it_writes_a_compiled_model_beside_the_model(self, model: Path) -> None:
        result = run(model, "--min-gain", 0)
        assert result.exit_code == 0, result.output
        compiled = CompiledModel.load(model.with_name("m.rknn.onnx"))
        assert [step.name for step in compiled.steps] == ["npu_0", "cpu_0", "npu_1"]
        assert "2 of 3 nodes" in result.output
        assert "Asinh: the compiler has no lowering" in result.output
        assert "m.rknn.onnx" in result.output

    def test_options_arrive(self, model: Path, tmp_path: Path, toolkit: ScriptedToolkit) -> None:
        arguments = ["--target", "RK3576", "--external", "--strip", "--min-gain", 0, "--cpu-op", "Tanh", "--jobs", 2]
        result = run(model, "-o", tmp_path / "out.onnx", *arguments)
        assert result.exit_code == 0, result.output
        compiled = CompiledModel.load(tmp_path / "out.onnx")
        assert compiled.targets == ("rk3576",)
        assert compiled.npu_steps[0].onnx is None
        assert (tmp_path / "out_RKNNExecutionProvider_npu_0.rknn").exists()
        assert {node.op_type for node in compiled.plan.nodes if node.place == "CPU"} == {"Asinh", "Tanh"}
        assert toolkit.requests[0].target == "rk3576"

    def test_cpu_node(self, model: Path) -> None:
        name = "first"
        proto = onnx.load(model)
        proto.graph.node[0].name = name
        onnx.save(proto, model)
        result = run(model, "--min-gain", 0, "--cpu-node", name, "--plan-only", "--json")
        nodes = {node["name"]: node for node in json.loads(result.stdout)["plan"]["nodes"]}
        assert nodes[name]["reason"] == "kept on the CPU by option"

    @pytest.mark.parametrize(
        "arguments", [["--cpu-nodes", "first,third"], ["--cpu-ops", "Sigmoid,Tanh"], ["--cpu-op", "Sigmoid, Tanh"]]
    )
    def test_lists_of_what_the_cpu_keeps(self, model: Path, arguments: list[str]) -> None:
        proto = onnx.load(model)
        for node, name in zip(proto.graph.node, ("first", "second", "third"), strict=True):
            node.name = name
        onnx.save(proto, model)
        result = run(model, "--min-gain", 0, "--plan-only", "--json", *arguments)
        nodes = {node["name"]: node["reason"] for node in json.loads(result.stdout)["plan"]["nodes"]}
        assert nodes["first"] == nodes["third"] == "kept on the CPU by option"

    def test_names_that_meet_nothing_are_told(self, model: Path) -> None:
        for more in ([], ["--plan-only"], ["--target", "rk3588,rk3566"]):
            result = run(model, "--min-gain", 0, "--cpu-op", "Tahn", *more)
            assert result.exit_code == 0, result.output
            assert "hint: --cpu-op Tahn met nothing" in result.output
            assert "did you mean Tanh?" in result.output

    def test_sizes_are_readable(self, model: Path) -> None:
        said = run(model, "--min-gain", 0).output
        assert " kB, converted in " in said
        own = re.search(r"memory at its peak: (\d+) MB here", said)
        assert own is not None
        assert 20 < int(own.group(1)) < 4000

    @pytest.mark.parametrize(
        "arguments", [["--shape", "x=2x8"], ["--shape", "x=2,8"], ["--dim", "N=2", "--dim", "M=8"]]
    )
    def test_shapes(self, tmp_path: Path, arguments: list[str]) -> None:
        onnx.save(net(size="N,M"), tmp_path / "m.onnx")
        result = run(tmp_path / "m.onnx", "--min-gain", 0, "--json", *arguments)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["plan"]["segments"][0]["inputs"][0]["shape"] == [2, 8]

    def test_json(self, model: Path) -> None:
        result = run(model, "--min-gain", 0, "--json")
        found = json.loads(result.stdout)
        assert found["files"] == [str(model.with_name("m.rknn.onnx"))]
        assert found["toolkit_version"] == "2.5.0"
        assert found["plan"]["segments"][0]["rel_rms"] < 1e-6
        assert found["seconds"] > 0

    def test_the_target_is_the_environment_s_where_nothing_else_names_it(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ORT_RKNN_TARGET", "rk3566")
        options = tmp_path / "options.toml"
        options.write_text('target = "rk3576"\n')
        for more, target in ([], "rk3566"), (["--options", options], "rk3576"), (["--target", "rk3562"], "rk3562"):
            result = run(model, "--min-gain", 0, "--plan-only", "--json", *more)
            assert json.loads(result.stdout)["plan"]["target"] == target

    def test_explain_lists_every_node(self, model: Path) -> None:
        result = run(model, "--min-gain", 0, "--explain")
        for name in ("Sigmoid", "Asinh", "Tanh"):
            assert name in result.output

    def test_plan_only_compiles_and_writes_nothing(self, model: Path, toolkit: ScriptedToolkit) -> None:
        toolkit.fails_with = ToolkitMissing(MISSING)
        result = run(model, "--plan-only", "--min-gain", 0)
        assert result.exit_code == 0, result.output
        assert "2 of 3 nodes" in result.output
        assert [file.name for file in model.parent.glob("*.onnx")] == ["m.onnx"]

    def test_a_model_for_the_cpu_alone(self, tmp_path: Path) -> None:
        onnx.save(net("y = Asinh (x)"), tmp_path / "m.onnx")
        result = run(tmp_path / "m.onnx")
        assert result.exit_code == 0, result.output
        assert "nothing runs on the NPU" in result.output
        assert (tmp_path / "m.rknn.onnx").exists()


class TestNotDone:
    def refused(self, result: Result, code: int, *words: str) -> None:
        assert result.exit_code == code, result.output
        for word in words:
            assert word in result.stderr
        assert "Traceback" not in result.output

    def test_npu_only(self, model: Path) -> None:
        self.refused(run(model, "--npu-only", "--min-gain", 0), 1, "1 of 3 nodes must stay on the CPU", "Asinh")
        assert not model.with_name("m.rknn.onnx").exists()

    def test_npu_only_under_the_cost_rule(self, model: Path) -> None:
        self.refused(run(model, "--npu-only"), 1, "3 of 3 nodes must stay on the CPU", "hint: --min-gain 0 sends")
        assert "hint" not in run(model, "--npu-only", "--min-gain", 0).stderr

    def test_missing_file(self, tmp_path: Path) -> None:
        self.refused(run(tmp_path / "none.onnx"), 2, "none.onnx")

    @pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00" * 50])
    def test_not_a_model(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "m.onnx").write_bytes(data)
        self.refused(run(tmp_path / "m.onnx"), 2, "m.onnx")

    def test_unknown_op(self, tmp_path: Path) -> None:
        onnx.save(net("y = NoSuchOp (x)"), tmp_path / "m.onnx")
        self.refused(run(tmp_path / "m.onnx"), 2, "NoSuchOp")

    def test_unknown_target(self, model: Path) -> None:
        self.refused(run(model, "--target", "rk9999"), 2, "rk9999", "rk3588", "rk3566")

    def test_toolkit_missing(self, model: Path, toolkit: ScriptedToolkit) -> None:
        toolkit.fails_with = ToolkitMissing(MISSING)
        self.refused(run(model, "--min-gain", 0), 2, MISSING)

    def test_no_output_folder(self, model: Path, tmp_path: Path, toolkit: ScriptedToolkit) -> None:
        self.refused(run(model, "-o", tmp_path / "no" / "out.onnx"), 2, "there is no folder")
        assert not toolkit.requests

    def test_onto_what_is_no_file(self, model: Path, tmp_path: Path, toolkit: ScriptedToolkit) -> None:
        os.mkfifo(tmp_path / "pipe")
        self.refused(run(model, "-o", tmp_path / "pipe"), 2, "pipe is no regular file: choose another output")
        self.refused(run(model, "-o", tmp_path), 2, "is a folder: choose another output")
        assert not toolkit.requests

    def test_onto_itself(self, model: Path) -> None:
        before = model.read_bytes()
        self.refused(run(model, "-o", model), 2, "the model itself")
        assert model.read_bytes() == before

    @pytest.mark.parametrize("option", [["--shape", "x"], ["--shape", "x=ax3"], ["--dim", "N=two"], ["--dim", "=3"]])
    def test_bad_shapes(self, model: Path, option: list[str]) -> None:
        self.refused(run(model, *option), 2, "NAME=VALUE")

    def test_contradicting_shapes(self, model: Path) -> None:
        self.refused(run(model, "--shape", "x=2x9"), 2, "x")
        self.refused(run(model, "--shape", "unknown=2x9"), 2, "unknown")

    def test_a_dimension_that_is_not_there(self, model: Path) -> None:
        self.refused(run(model, "--dim", "N=2"), 2, "no input has a dimension called N")

    def test_calibration_that_nothing_is_calibrated_on(self, model: Path, tmp_path: Path) -> None:
        self.refused(run(model, "--calibration", tmp_path), 2, "not fp16: add --int8 or --w4a16")

    def test_compiled_already(self, model: Path) -> None:
        run(model, "--min-gain", 0)
        self.refused(run(model.with_name("m.rknn.onnx")), 2, "compiled already")

    def test_full_disk(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(handle: int, mode: str) -> IO[bytes]:
            os.close(handle)
            return Path("/dev/full").open(mode)

        monkeypatch.setattr(os, "fdopen", full)
        self.refused(run(model, "--min-gain", 0), 2, "No space left on device")
        assert [file.name for file in model.parent.iterdir() if file.is_file()] == ["m.onnx"]

    def test_a_reason_numpy_does_not_give(self, model: Path, toolkit: ScriptedToolkit) -> None:
        toolkit.fails_with = OSError("16384 requested and 5088 written")
        self.refused(run(model, "--min-gain", 0), 2, "16384 requested and 5088 written", "is the disk full?")

    def test_ctrl_c(self, model: Path, toolkit: ScriptedToolkit) -> None:
        toolkit.fails_with = KeyboardInterrupt()
        self.refused(run(model, "--min-gain", 0), 130, "interrupted")
        assert not model.with_name("m.rknn.onnx").exists()


@pytest.mark.toolkit
class TestRealToolkit:
    def big(self, path: Path) -> None:
        """A model whose compilation takes some seconds."""
        graph = parse_graph("g (float[1,64,32,32] x) => (float[1,64,32,32] y) { " + self.body(20) + " }")
        weight = np.random.default_rng(0).normal(size=(64, 64, 3, 3)).astype(np.float32) / 24
        graph.initializer.append(numpy_helper.from_array(weight, "w"))
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

    def body(self, count: int) -> str:
        names = ["x", *(f"v{number}" for number in range(count - 1)), "y"]
        rows = (f"{new} = Conv <pads = [1,1,1,1]> ({old}, w)" for old, new in itertools.pairwise(names))
        return " ".join(rows)

    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("moment", ["compiling", "starting"])
    def test_ctrl_c_leaves_no_file_and_no_child(self, tmp_path: Path, moment: str) -> None:
        self.big(tmp_path / "m.onnx")
        (tmp_path / "tmp").mkdir()
        environ = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
        # The toolkit's environment is the user's: only the cache of the test is redirected elsewhere.
        environ.pop("ORT_RKNN_CACHE_DIR", None)
        arguments = ["-m", "ort_rknn.cli", "convert", str(tmp_path / "m.onnx"), "--min-gain", "0"]
        told = ["-X", "importtime"] if moment == "starting" else []  # Python says what it has just imported
        with subprocess.Popen(
            [sys.executable, *told, *arguments], env=environ, cwd=ROOT, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            while moment == "compiling" and not list((tmp_path / "tmp").glob("*/*/stage")):
                assert process.poll() is None
                time.sleep(0.01)  # another process's file: there is no event to wait for
            if moment == "starting":  # any moment of the imports must do
                assert any(line.rstrip().endswith(" click.core") for line in process.stderr)
            children = _children(process.pid)
            process.send_signal(signal.SIGINT)
            errors = process.stderr.read()
        for child in children:  # they end with their parent, and that is an event
            with os.fdopen(child) as ended:
                assert select.select([ended], [], [], 60)[0], "a child goes on"
        # Before the command is loaded, Python itself or click answers.
        assert process.returncode in ((130,) if moment == "compiling" else (130, 1, -signal.SIGINT)), errors
        assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "tmp"]
        assert not list((tmp_path / "tmp").glob("ort_rknn-*"))
        assert str(tmp_path) not in _command_lines()


def _children(pid: int) -> list[int]:
    """File descriptors that can be read when the processes below one have ended."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            child, parent = int(file.parent.name), int(file.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found += [os.pidfd_open(child), *_children(child)]
        except OSError:
            continue  # it ended meanwhile
    return found


def _command_lines() -> str:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it ended meanwhile
    return "\n".join(line for line in found if "pytest" not in line)
