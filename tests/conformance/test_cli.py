"""``ort-rknn check`` and ``ort-rknn conformance``: exit codes, one-line refusals, and the whole way on real models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits

from ort_rknn_conformance.cli import check, conformance
from ort_rknn_conformance.doctor.board_models import CONVOLUTION
from ort_rknn_converters.toolkit.setup import environment
from tests.helpers.emulator import Emulator, build_emulator

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"


def _check(*arguments: object) -> Result:
    return CliRunner().invoke(check, [str(argument) for argument in arguments], catch_exceptions=False)


def _refusal(result: Result) -> str:
    """The one line a refusal says."""
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.mark.toolkit
def test_agreement_on_the_cpu(tmp_path: Path) -> None:
    result = _check(DIGITS, "--device", "cpu", "--samples", 3, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert "PASS" in result.stdout
    (row,) = json.loads((tmp_path / "r.json").read_text())["results"]
    assert row["verdict"] == "right"
    assert row["samples"] == 3


@pytest.mark.toolkit
def test_disagreement_is_exit_code_1_and_says_where(tmp_path: Path) -> None:
    model = onnx.load(DIGITS)
    for weight in model.graph.initializer:
        if weight.name == "head.bias":
            changed = numpy_helper.to_array(weight) + np.eye(10, dtype=np.float32)[3]
            weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    result = _check(DIGITS, "--reference", tmp_path / "other.onnx", "--device", "cpu")
    assert result.exit_code == 1
    assert "FAIL probabilities: relative RMS" in result.stdout
    assert "largest differences" in result.stdout


@pytest.mark.parametrize("content", [None, b"", b"\x08\x07random bytes"], ids=["missing", "empty", "random"])
def test_unreadable_model(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    assert str(path) in _refusal(_check(path, "--device", "cpu"))


def test_wrong_data_lists_the_expected(tmp_path: Path) -> None:
    np.savez(tmp_path / "names.npz", picture=np.zeros((1, 1, 8, 8), np.float32))
    np.savez(tmp_path / "shape.npz", image=np.zeros((1, 1, 8, 9), np.float32))
    for name in ("names", "shape"):
        line = _refusal(_check(DIGITS, "--device", "cpu", "--data", tmp_path / f"{name}.npz"))
        assert "expected image: float32 [1, 1, 8, 8]" in line
    assert "no such file" in _refusal(_check(DIGITS, "--device", "cpu", "--data", tmp_path / "none"))


def test_unknown_target_lists_the_known() -> None:
    assert "Known targets: rk3588" in _refusal(_check(DIGITS, "--target", "rk9999"))


def test_without_the_toolkit_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "toolkit_version", lambda: None)
    assert environment.MISSING in _refusal(_check(DIGITS))
    result = CliRunner().invoke(conformance, ["--filter", "test_relu"])
    assert environment.MISSING in _refusal(result)


@pytest.mark.parametrize("device", ["npu", "lite"])
def test_without_a_board_nothing_is_claimed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_RKNN_RUNTIME_LIBRARY", raising=False)
    monkeypatch.setattr(environment, "toolkit_version", lambda: "2.5.0")
    refusal = _refusal(_check(DIGITS, "--device", device))
    assert "no NPU can be used" in refusal or "is not installed" in refusal


def test_a_compiled_model_needs_no_toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "toolkit_version", lambda: None)
    onnx.save(CONVOLUTION.source(), tmp_path / "original.onnx")
    compiled = tmp_path / "m.rknn.onnx"
    compiled.write_bytes(CONVOLUTION.read("rk3588"))
    result = _check(compiled, "--reference", tmp_path / "original.onnx")
    assert result.exit_code == 0, result.output
    assert "2 of 2 nodes on the NPU path" in result.stdout


@pytest.mark.toolkit
def test_free_dimensions(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph([node], "g", infos[:1], infos[1:]), opset_imports=opset, ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    result = _check(tmp_path / "m.onnx", "--dim", "n=5", "--min-gain", 0)
    assert result.exit_code == 0, result.output
    assert "[5, 3]" in result.stdout
    assert "1 of 1 nodes on the NPU path" in result.stdout
    result = _check(tmp_path / "m.onnx", "--dim", "n=5")  # the cost rule leaves so little on the CPU
    assert "nothing ran on the NPU path" in result.stdout
    assert _check(tmp_path / "m.onnx", "--device", "cpu", "--dim", "n").exit_code == 2


@pytest.mark.toolkit
@pytest.mark.parametrize("device", ["simulator", "toolkit"])
def test_whole_way(device: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.random.default_rng(0).random((2, 1, 8, 8), np.float32))
    report = tmp_path / "r.json"
    result = _check(DIGITS, "--device", device, "--data", tmp_path / "d.npz", "--min-gain", 0, "--json", report)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(report.read_text())["results"]
    assert row["npu_nodes"] >= 0.9 * row["nodes"] > 0
    assert 0 < row["outputs"][0]["rel_rms"] < 2e-2


@pytest.mark.toolkit
def test_tolerance_of_the_user() -> None:
    assert _check(DIGITS, "--min-gain", 0, "--tolerance", "1e-9").exit_code == 1


@pytest.mark.toolkit
def test_standard_cases_and_resume(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    arguments = ["--filter", "node/*st_relu", "--filter", "node/test_gemm_all_attributes", "--jobs", "1"]
    arguments += ["--json", str(report)]
    result = CliRunner().invoke(conformance, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content = json.loads(report.read_text())
    assert content["finished"]
    assert {row["case"]: row["verdict"] for row in content["results"]} == {
        "node/test_gemm_all_attributes": "right",
        "node/test_relu": "right",
    }
    assert all(row["npu_nodes"] for row in content["results"])

    content |= {"finished": False, "results": content["results"][:1]}
    content["results"][0]["message"] = "kept"
    report.write_text(json.dumps(content))
    result = CliRunner().invoke(conformance, [*arguments, "--resume"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = json.loads(report.read_text())["results"]
    assert [row["message"] for row in rows] == ["kept", ""]
    again = CliRunner().invoke(conformance, [*arguments, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
    rows = json.loads(report.read_text())["results"]
    assert [row["message"] for row in rows] == ["", ""], "that run had come to its end"
    report.write_text(json.dumps(content))
    other = CliRunner().invoke(conformance, [*arguments, "--resume", "--target", "rk3566"], catch_exceptions=False)
    assert "(target differ): remove it, or go on without --resume" in _refusal(other)


@pytest.mark.toolkit
def test_images_labels_and_int8(tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    for number in range(40):
        file = tmp_path / "images" / str(labels[number]) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((images[number].reshape(8, 8) / 16 * 255).round().astype(np.uint8)).save(file)
    common = [DIGITS, "--data", tmp_path / "images", "--labels", "folders", "--min-gain", 0]
    result = _check(*common, "--html", tmp_path / "r.html", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert "right label, top1: " in result.stdout
    (row,) = json.loads((tmp_path / "r.json").read_text())["results"]
    assert row["samples"] == 40
    assert row["accuracy"]["top1"] == row["accuracy"]["cpu_top1"] > 0.9
    assert '"picture":"\\u003csvg' in (tmp_path / "r.html").read_text()
    int8 = ["--precision", "int8", "--calibration", tmp_path / "images", "--layers", "--json", tmp_path / "q.json"]
    result = _check(*common, *int8)
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "q.json").read_text())["results"]
    assert row["accuracy"]["top1"] > 0.9
    assert row["outputs"][0]["top1"] > 0.9
    assert row["layers"][0]["entire"] > 0


@pytest.mark.toolkit
def test_a_folder_of_models(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    (zoo / "deep").mkdir(parents=True)
    (zoo / "deep" / "digits.onnx").write_bytes(DIGITS.read_bytes())
    np.save(zoo / "deep" / "digits.npy", np.random.default_rng(0).random((2, 1, 8, 8), np.float32))
    (zoo / "broken.onnx").write_bytes(b"nonsense")
    report = tmp_path / "r.json"
    result = _check(zoo, "--min-gain", 0, "--json", report, "--junit", tmp_path / "r.xml")
    assert result.exit_code == 0, result.output
    rows = {row["case"]: row for row in json.loads(report.read_text())["results"]}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "broken.onnx": "unsupported",
        "deep/digits.onnx": "right",
    }
    assert rows["deep/digits.onnx"]["samples"] == 2
    assert rows["deep/digits.onnx"]["npu_nodes"] > 10
    again = _check(zoo, "--min-gain", 0, "--baseline", report)
    assert "no change" in again.stdout
    assert "is for one model" in _refusal(_check(zoo, "--layers"))
    (tmp_path / "empty").mkdir()
    assert "no .onnx file" in _refusal(_check(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flow", "toolkit", "--precision", "w4a16"], "w4a16 is not for rk3588"),
        (["--flow", "toolkit", "--precision", "mixed"], "flow toolkit does not do mixed"),
        (["--flow", "emulated"], "no emulated NPU: `make emulator`"),
        (["--flow", "npu"], "no NPU can be used"),
    ],
)
def test_what_a_flow_cannot_do_is_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(conformance, [*arguments, "--filter", "node/test_relu"])
    assert re.search(message, _refusal(result))


def test_a_fix_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    assert "there is no folder" in _refusal(_check(DIGITS, "--fix", tmp_path / "no" / "fix.toml"))


@pytest.mark.toolkit
def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    refusal = _refusal(_check(DIGITS, "--cpu-node", "conv9"))
    assert "names 'conv9', and the model has no node of that name; did you mean conv2" in refusal


def test_the_emulator_is_not_taken_for_an_npu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(build_emulator()))
    assert "take device emulated" in _refusal(_check(DIGITS, "--device", "npu"))


@pytest.mark.toolkit
def test_check_and_conformance_on_the_emulated_npu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator()
    monkeypatch.setenv("ORT_RKNN_RUNTIME_LIBRARY", str(emulator.path))
    before = emulator.count("rknn_run")
    result = _check(DIGITS, "--device", "emulated", "--samples", 2, "--min-gain", 0, "--layers")
    assert result.exit_code == 0, result.output
    assert "emulated: the vendor's interface without its NPU" in " ".join(result.stdout.split())
    assert "layers, worst first" in result.stdout
    assert emulator.count("rknn_run") > before + 2
    run = CliRunner().invoke(
        conformance, ["--flow", "emulated", "--filter", "node/test_relu", "--json", str(tmp_path / "r.json")]
    )
    assert run.exit_code == 0, run.output
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["flow"] == "emulated"
    assert set(content["counts"]) == {"right"}


def test_cases_from_the_field(tmp_path: Path) -> None:
    file = tmp_path / "field.json"
    arguments = ["--source", "field", "--flow", "cpu", "--jobs", "1", "--filter", "ids/parity", "--json", str(file)]
    result = CliRunner().invoke(conformance, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    [row] = json.loads(file.read_text())["results"]
    assert (row["case"], row["verdict"]) == ("field/ids/parity", "right")


@pytest.mark.parametrize("target", ["rk3588", "rk3566"])
def test_a_compiled_model_is_judged_as_what_it_is(target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "toolkit_version", lambda: None)
    onnx.save(CONVOLUTION.source(), tmp_path / "original.onnx")
    compiled = tmp_path / "m.rknn.onnx"
    compiled.write_bytes(CONVOLUTION.read(target))
    arguments = (compiled, "--reference", tmp_path / "original.onnx")
    result = _check(*arguments, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert f"m.rknn.onnx  {target}, fp16, " in result.stdout
    head = json.loads((tmp_path / "r.json").read_text())
    assert (head["target"], head["precision"]) == (target, "fp16")
    assert "was compiled for precision fp16, not int8" in _refusal(_check(*arguments, "--precision", "int8"))
    assert f"was compiled for target {target}, not rk3576" in _refusal(_check(*arguments, "--target", "rk3576"))
    assert "--fix is for the ONNX file itself" in _refusal(_check(*arguments, "--fix", tmp_path / "f.toml"))
    assert "--cpu-node is for the ONNX file itself" in _refusal(_check(*arguments, "--cpu-node", "a"))


@pytest.mark.toolkit
def test_a_pass_says_what_it_leaves_open_and_that_there_is_nothing_to_fix(tmp_path: Path) -> None:
    fix = tmp_path / "fix.toml"
    result = _check(DIGITS, "--min-gain", 0, "--samples", 2, "--fix", fix)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "Within the tolerance of 0.02, the best class may be another where the two best are within about 4 %" in said
    assert "The 2 samples were random: it says nothing of real inputs." in said
    assert "It was computed here, not on a board." in said
    assert f"nothing to fix: the model agrees as it is; {fix} is not written" in said.replace(" .toml", ".toml")
    assert not fix.exists()
