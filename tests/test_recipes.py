"""The programs of docs/recipes.md and docs/faq.md run as they stand there, with small networks for the real ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.parser import parse_model

from tests.helpers.toolkits.fake import fake_toolkit

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^## ([^\n]+)\n|^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _programs(page: str) -> dict[str, str]:
    """The block of Python of each section."""
    found: dict[str, str] = {}
    title = ""
    for heading, block in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if heading:
            title = heading
        else:
            found[title] = found.get(title, "") + block
    return found


RECIPES, ANSWERS = _programs("recipes.md"), _programs("faq.md")


def _parsed(body: str, **weights: np.ndarray[Any, Any]) -> onnx.ModelProto:
    model = parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {body}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.checker.check_model(model)
    return model


def _yolo() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    return _parsed(
        """g (float[1,3,640,640] images) => (float[1,84,64] output0) {
            a = AveragePool <kernel_shape = [80, 80], strides = [80, 80]> (images)
            b = Conv (a, w) c = Sigmoid (b) output0 = Reshape (c, s) }""",
        w=rng.normal(size=(84, 3, 1, 1)).astype(np.float32),
        s=np.array([1, 84, 64]),
    )


def _silero() -> onnx.ModelProto:
    return _parsed(
        """g (float[1,512] input, float[2,1,128] state, int64 sr) => (float[1,1] output, float[2,1,128] stateN) {
            a = ReduceMean <axes = [1], keepdims = 1> (input) output = Sigmoid (a) stateN = Tanh (state) }"""
    )


def _embeddings() -> onnx.ModelProto:
    table = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    return _parsed(
        """g (int64[1,n] input_ids, int64[1,n] attention_mask) => (float[1,n,8] last_hidden_state) {
            a = Gather (table, input_ids) b = Cast <to = 1> (attention_mask) c = Unsqueeze (b, axis)
            last_hidden_state = Mul (a, c) }""",
        table=table,
        axis=np.array([2]),
    )


def _classifier() -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy"]
    return helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), ir_version=8)


@pytest.fixture(params=["simulator", "cpu"])
def program(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a section's program in an empty folder, and gives its names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORT_RKNN_DEVICE", request.param)
    monkeypatch.setenv("ORT_RKNN_MIN_GAIN", "0")

    def run(section: str, programs: dict[str, str] = RECIPES, **changed: str) -> dict[str, Any]:
        (title,) = [title for title in programs if title.startswith(section)]
        source = programs[title]
        for old, new in changed.items():
            assert f"{old}=" in source
            source = re.sub(rf"\b{old}=\d+", f"{old}={new}", source, count=1)
        names: dict[str, Any] = {}
        with fake_toolkit(tmp_path / "cache"):
            exec(compile(source, title, "exec"), names)
        return names

    return run


def test_every_program_is_run() -> None:
    assert [title.split(":")[0].split(" (")[0] for title in RECIPES] == [
        "A camera and YOLO",
        "Speech",
        "Sentence embeddings",
        "A folder of models",
    ]
    assert len(ANSWERS) == 2


def test_a_camera(program: Any) -> None:
    onnx.save(_yolo(), "yolo.onnx")
    names = program("A camera", rate="500")  # a faster camera: the test need not last two seconds
    shown = [number for number, _ in names["shown"]]
    assert shown == sorted(shown)
    assert sorted(shown + names["dropped"]) == list(range(60))
    assert shown[-1] == 59, "the newest picture is never dropped"
    assert all(boxes > 0 for _, boxes in names["shown"])


def test_speech(program: Any) -> None:
    onnx.save(_silero(), "silero_vad.onnx")
    names = program("Speech")
    assert len(names["speech"]) == 31
    assert all(0.4 < probability < 0.6 for probability in names["speech"])


def test_embeddings(program: Any) -> None:
    onnx.save(_embeddings(), "embeddings.onnx")
    names = program("Sentence")
    assert abs(float(names["first"] @ names["first"]) - 1) < 1e-5
    assert -1 <= float(names["first"] @ names["second"]) <= 1
    np.testing.assert_allclose(names["embed"]([5, 9, 7]), names["embed"]([5, 9, 7]))
    with pytest.raises(StopIteration):
        names["embed"](list(range(129)))


def test_a_folder(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("zoo").mkdir()
    onnx.save(_classifier(), "zoo/relu.onnx")
    Path("zoo/broken.onnx").write_bytes(b"no model")
    program("A folder")
    said = capsys.readouterr().out
    assert "broken.onnx: " in said
    assert "relu.onnx: 1 of 1 nodes on the NPU" in said
    assert {path.name for path in Path("compiled").iterdir()} == {"relu.rknn.onnx", "relu.txt"}


@pytest.mark.parametrize("section", list(ANSWERS))
def test_answers(section: str, program: Any) -> None:
    program(section, ANSWERS)
