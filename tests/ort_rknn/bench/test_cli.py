"""``ort-rknn bench``: VA-10 to VA-22, OV-17 to OV-19."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ort_rknn.bench.cli import command
from ort_rknn.bench.report import percentile
from ort_rknn.devices.simulator import SimulatorContext
from ort_rknn.errors import DeviceError
from tests.helpers.emulator import build_emulator, real_path
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import fake_toolkit

SIMULATOR = ("--device", "simulator", "-o", "min_gain=0", "-o", "compile=load")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs the command in an empty folder, on a model beside it."""
    source = tmp_path / "two.onnx"
    source.write_bytes(model("two"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*arguments: str, file: Path = source) -> Result:
        return CliRunner().invoke(command, [str(file), *arguments])

    with fake_toolkit(tmp_path / "cache"):
        yield run


def test_va19_every_inference_is_counted(bench: Any) -> None:
    result = bench(*SIMULATOR)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("Batches completed: 10 / 10\n"), "VA-15: ten by default"
    assert "async, 6 in flight" in result.stdout  # three cores and a queue of three
    for row in ("First inference", "Count", "Duration", "Throughput", "Utilisation"):
        assert re.search(rf"^{row} .*\d", result.stdout, re.MULTILINE), row
    for name in ("median", "mean", "p95", "p99", "min", "max"):
        assert re.search(rf"^Latency {name} +\d+\.\d+ ms$", result.stdout, re.MULTILINE), name


def test_layers_as_the_npus_runtime_timed_them(bench: Any) -> None:
    options = ("-o", "device=npu", "-o", f"runtime_library={build_emulator()}", "--target", "rk3588")
    result = bench(*options, "--layers", "--json", "r.json", file=real_path("tokens_fp16_rk3588"))
    assert result.exit_code == 0, result.output
    assert re.search(r"layer by layer:\nID OpType Target Time\(us\)\n0 Emulated NPU", result.stdout)
    (table,) = json.loads(Path("r.json").read_text())["layers"].values()
    assert "Emulated" in table
    refused = bench(*SIMULATOR, "--layers")
    assert refused.exit_code == 2
    assert "only the NPU's own runtime tells what each layer took" in refused.output


def test_va17_va20_benchmark_measures_both_ways(bench: Any) -> None:
    result = bench(*SIMULATOR, "--benchmark", "-n", "12", "--latency", "10", "--json", "r.json")
    lines = dict(
        re.findall(r"^\[INFO\] (async|sync) infer pass: (\d+\.\d+) ms \(\d+\.\d+ ms/frame\)$", result.stdout, re.M)
    )
    assert float(lines["async"]) < float(lines["sync"]), "three cores"
    sync, parallel = json.loads(Path("r.json").read_text())["passes"]
    assert sync["latency_ms"]["min"] >= 10
    assert parallel["throughput_per_s"] > 1.5 * sync["throughput_per_s"]


def test_va16_dry_run_leaves_nothing_behind(bench: Any) -> None:
    assert bench(*SIMULATOR, "--dry-run").exit_code == 0
    assert list(Path.cwd().iterdir()) == []
    assert bench("--dry-run", "--input", "x.npz").exit_code == 2


def test_va12_va21_va22_input_and_output_files(bench: Any) -> None:
    a = np.float32([[1, 2], [3, -4], [5, 6]])
    np.savez("feed.npz", A=a, B=a)
    (Path.cwd() / "feed.bin").write_bytes(a.tobytes() * 2)
    outputs = []
    for name in ("feed.npz", "feed.bin"):
        result = bench(*SIMULATOR, "--input", name, "--output", "deep/out", "-n", "3")
        assert result.exit_code == 0, result.output
        assert sorted(path.name for path in Path("deep/out").iterdir()) == ["output_f0_0.bin", "output_f0_1.bin"]
        outputs.append(np.fromfile("deep/out/output_f0_0.bin", np.float32).reshape(3, 2))
    for output in outputs:
        assert np.array_equal(output, np.maximum(a @ np.float32([[1, 2], [-1, 3]]), 0) + a)


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_va10_va11_jobs_in_flight(bench: Any, jobs: int) -> None:
    result = bench(*SIMULATOR, "--jobs", str(jobs), "-n", "20", "--latency", "1")
    assert result.exit_code == 0
    assert f"async, {jobs} in flight" in result.stdout


def test_va18_help(bench: Any) -> None:
    result = bench("--help")
    assert result.exit_code == 0
    for flag in ("--num-iteration", "--dry-run", "--benchmark", "--seconds", "--hint", "--percentiles", "--per-core"):
        assert flag in result.stdout


def test_ov17_seconds_and_hint_and_percentiles(bench: Any) -> None:
    result = bench(*SIMULATOR, "--seconds", "0.2", "--hint", "latency", "--percentiles", "50,99.9", "--latency", "2")
    assert result.exit_code == 0, result.output
    assert "Latency p99.9" in result.stdout
    assert "of 1 core(s)" in result.stdout  # one context; the driver chooses its core
    (done, asked) = re.findall(r"Batches completed: (\d+) / (\d+)", result.stdout)[0]
    assert done == asked
    assert 2 <= int(done) <= 200


def test_ov18_per_core_and_json(bench: Any) -> None:
    result = bench(*SIMULATOR, "-n", "30", "--per-core", "--json", "r.json", "--latency", "3", "--cores", "2")
    assert result.exit_code == 0
    report = json.loads(Path("r.json").read_text())
    assert report["providers"] == ["RKNNExecutionProvider", "CPUExecutionProvider"]
    assert report["options"]["simulator_cores"] == "2"
    (measured,) = report["passes"]
    assert (measured["asked"], measured["completed"], measured["error"]) == (30, 30, "")
    assert isinstance(measured["duration_s"], float)
    assert [core["core"] for core in measured["cores"]] == [0, 1]
    assert sum(core["inferences"] for core in measured["cores"]) == 30
    assert all(0.3 < core["utilisation"] <= 1.01 for core in measured["cores"])
    assert re.search(r"^1 +async +1 +\d+ +\d+\.\d%$", result.stdout, re.MULTILINE)


def test_ov17_per_segment(bench: Any) -> None:
    result = bench(*SIMULATOR, "-n", "7", "--per-segment", "--json", "r.json", "--latency", "2")
    assert result.exit_code == 0, result.output
    assert re.search(r"^npu_0 +RKNN +8 +[2-9]\.\d+ ms +100\.0%$", result.stdout, re.MULTILINE), result.stdout
    [part] = json.loads(Path("r.json").read_text())["parts"]
    assert (part["name"], part["count"]) == ("npu_0", 8)  # and the first inference
    assert [path.name for path in Path.cwd().iterdir()] == ["r.json"]
    result = bench("--device", "cpu", "--per-segment")
    assert re.search(r"^relu_1 +CPU +11 ", result.stdout, re.MULTILINE), result.stdout


def test_ov19_folders_are_made_before_the_measurement(bench: Any) -> None:
    assert bench(*SIMULATOR, "--json", "a/b/c.json").exit_code == 0
    assert Path("a/b/c.json").exists()
    Path("file").touch()
    result = bench(*SIMULATOR, "--json", "file/c.json")
    assert result.exit_code == 2
    assert "completed" not in result.output


def test_a_model_on_the_cpu_is_measured_too(bench: Any) -> None:
    result = bench("--device", "cpu", "--benchmark", "--per-core")
    assert result.exit_code == 0, result.output
    assert "No core to show" in result.stdout
    assert result.stdout.endswith("Batches completed: 10 / 10\n")


@pytest.mark.parametrize("api", ["sync", "async"])
def test_va19_a_failure_is_counted_and_told(bench: Any, api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = SimulatorContext.run

    def sometimes(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise DeviceError("rknn_run failed with RKNN_ERR_FAIL (-1)")
        return run(self, *arguments)

    monkeypatch.setattr(SimulatorContext, "run", sometimes)
    result = bench(*SIMULATOR, "--api", api)
    assert result.exit_code == 1
    assert "1 failed, the first with: DeviceError: rknn_run failed" in result.stdout
    assert result.stdout.endswith("Batches completed: 9 / 10\n")


def test_a_device_that_always_fails_ends_the_measurement(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Any, *arguments: Any) -> Any:
        raise DeviceError("it is dead")

    monkeypatch.setattr(SimulatorContext, "run", never)
    result = bench(*SIMULATOR, "-n", "100000")
    assert result.exit_code == 1
    assert result.stdout.endswith("Batches completed: 0 / 100000\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-n", "0"], "is not in the range"),
        (["-n", "3", "--seconds", "1"], "not both"),
        (["--input", "gone.npz"], "No such file"),
        (["--device", "abacus"], "must be one of"),
        (["-o", "nope=1"], "unknown RKNNExecutionProvider option 'nope'"),
        (["-o", "nope"], "--option takes KEY=VALUE"),
        (["--target", "rk1"], "Known targets"),
        (["--percentiles", "x"], "numbers above 0"),
        (["--hint", "latency", "-o", "schedule=0"], "performance_hint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_end_with_2_and_one_line(bench: Any, arguments: list[str], why: str) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert why in result.output.splitlines()[-1]
    assert "Traceback" not in result.output


def test_bad_models_end_with_2_and_one_line(bench: Any, tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"junk")
    for file in (junk, tmp_path / "gone.onnx", tmp_path):
        result = bench(file=file)
        assert result.exit_code == 2
        assert re.fullmatch(r"Error: .+\n", result.stderr), result.stderr


def test_percentiles_are_values_that_were_measured() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(values, share) for share in (1, 20, 50, 80, 81, 100)] == [1, 1, 3, 4, 5, 5]


def test_a_computer_slower_than_the_pretended_npu_is_said(bench: Any) -> None:
    fast = bench(*SIMULATOR, "--latency", "0.00001", "--json", "r.json")
    assert "this computer was too slow" in fast.stdout
    assert "longer than the 1e-05 ms pretended" in fast.stdout
    assert "too slow" in json.loads(Path("r.json").read_text())["limited"]
    assert "Simulated" not in bench(*SIMULATOR, "--latency", "200", "-n", "2").stdout
    assert "say nothing of an NPU" in bench(*SIMULATOR).stdout
    assert "Simulated" not in bench("--device", "cpu").stdout
