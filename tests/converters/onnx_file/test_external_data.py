"""Weights in files beside the model, in and out, and models that no single protobuf message could hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import ort_rknn
from ort_rknn_converters.cache.store import load_or_convert
from ort_rknn_converters.compiled.bundle import Bundle
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import CompiledModelError, ModelError
from ort_rknn_converters.onnx_file import split_model
from ort_rknn_converters.onnx_file.split_model import SplitModel
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.convert import convert
from ort_rknn_converters.pipeline.convert_many import convert_bundle
from tests.helpers.toolkits.fake import fake_compile, fake_toolkit

WIDTH = 160
SIMULATED = [("RKNNExecutionProvider", {"device": "simulator"})]


def _limit_cuts(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in ("graph.size_limit", "passes.simplify.fold", "pipeline.convert"):
        monkeypatch.setattr(f"ort_rknn_converters.{module}.CONTENT_LIMIT", size)


def _model(folder: Path, width: int = WIDTH, rows: Any = 1, *, sparse: bool = False) -> Path:
    """X [rows, width] -> X W0, Cos (kept on the CPU), W1: both weights in ``w.bin``."""
    size = 4 * width * width
    tensors = []
    with (folder / "w.bin").open("wb") as file:
        for number in range(2):
            tensor = TensorProto(name=f"W{number}", data_type=TensorProto.FLOAT, dims=[width, width])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "w.bin"), ("offset", number * size), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            if not sparse:
                file.write((np.arange(width * width, dtype=np.float32) % (7 + number) - 3).tobytes())
        file.truncate(2 * size)
    nodes = [
        helper.make_node("MatMul", ["X", "W0"], ["a"], "mm0"),
        helper.make_node("Cos", ["a"], ["b"], "cos"),
        helper.make_node("MatMul", ["b", "W1"], ["Y"], "mm1"),
    ]
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, width]) for name in "XY"]
    graph = helper.make_graph(nodes, "g", edges[:1], edges[1:], tensors)
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


OPTIONS: dict[str, Any] = {"min_gain": 0, "cpu_ops": frozenset({"Cos"}), "verify_feeds": 1}
X = {"X": np.linspace(-1, 1, WIDTH, dtype=np.float32).reshape(1, WIDTH)}


def _agrees(source: Any, path: Path) -> None:
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, X)[0]
    session = ort_rknn.InferenceSession(source, providers=SIMULATED)
    assert session.plan.npu_nodes == 2
    scale = float(np.abs(expected).max())
    assert np.allclose(session.run(None, X)[0], expected, atol=2e-2 * scale)


def test_weights_beside_the_model_are_read_and_compiled_models_need_them_no_more(tmp_path: Path) -> None:
    path = _model(tmp_path)
    compiled = convert(path, compile=fake_compile, known_failures=tmp_path, **OPTIONS)
    out = tmp_path / "out"
    out.mkdir()
    assert compiled.save(out / "c.onnx") == (out / "c.onnx",)
    _agrees(out / "c.onnx", path)
    assert CompiledModel.load(out / "c.onnx") == compiled


def test_what_does_not_fit_one_message_puts_its_weights_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _model(tmp_path)
    compiled = convert(path, compile=fake_compile, known_failures=tmp_path, **OPTIONS)
    monkeypatch.setattr(split_model, "CONTENT_LIMIT", 4 * WIDTH * WIDTH)
    files = compiled.save(tmp_path / "c.onnx")
    assert [file.name for file in files] == ["c.onnx", "c.weights"]
    assert files[0].stat().st_size < 20_000
    assert files[1].stat().st_size == 2 * 4 * WIDTH * WIDTH
    onnx.checker.check_model(str(files[0]))
    assert CompiledModel.load(files[0]) == compiled
    _agrees(files[0], path)


def test_the_cache_notices_other_weights(tmp_path: Path) -> None:
    path = _model(tmp_path)
    options = ConvertOptions(**OPTIONS)
    made: list[int] = []

    def counting(request: Any, **more: Any) -> Any:
        made.append(1)
        return fake_compile(request, **more)

    for _ in range(2):
        load_or_convert(path, options, cache_dir=tmp_path / "cache", compile=counting)
    assert len(made) == 2  # two segments, once
    with (tmp_path / "w.bin").open("r+b") as file:
        file.write(b"\1\2\3\4")
    load_or_convert(path, options, cache_dir=tmp_path / "cache", compile=counting)
    assert len(made) == 4


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = _model(tmp_path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises((ModelError, FileNotFoundError), match=r"w\.bin"):
        convert(path, compile=fake_compile, known_failures=tmp_path, **OPTIONS)


def test_several_shapes_share_external_weights(tmp_path: Path) -> None:
    path = _model(tmp_path, rows="N")
    wanted = [ConvertOptions(shapes={"X": (rows, WIDTH)}, **OPTIONS) for rows in (1, 2)]
    bundle = convert_bundle(path, wanted, compile=fake_compile, known_failures=tmp_path)
    bundle.save(tmp_path / "c.onnx")
    assert (tmp_path / "c.onnx").stat().st_size < 1.2 * 2 * 4 * WIDTH * WIDTH
    read = Bundle.load(tmp_path / "c.onnx")
    assert [one.load() for one in read.variants] == [one.load() for one in bundle.variants]
    session = ort_rknn.InferenceSession(tmp_path / "c.onnx", providers=SIMULATED)
    plain = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = {"X": np.ones((3, WIDTH), np.float32)}
    assert np.array_equal(session.run(None, x)[0], plain.run(None, x)[0])


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiled model in a folder of its own whose weights are in a second file, as above 2 GB."""
    monkeypatch.setattr(split_model, "CONTENT_LIMIT", 4 * WIDTH * WIDTH)
    folder = tmp_path / "out"
    folder.mkdir()
    compiled = convert(_model(tmp_path), compile=fake_compile, known_failures=tmp_path, **OPTIONS)
    assert len(compiled.save(folder / "c.onnx")) == 2
    return folder / "c.onnx"


def test_both_files_may_move_together(beside: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    beside.parent.rename(elsewhere)
    _agrees(elsewhere / "c.onnx", tmp_path / "m.onnx")


def _linked(folder: Path, file: Path) -> Path:
    """``file`` and what lies beside it as Hugging Face's cache keeps it: links to files named by their content."""
    (folder / "blobs").mkdir(parents=True)
    (folder / "snapshots" / "abc").mkdir(parents=True)
    for number, each in enumerate(sorted(file.parent.iterdir())):
        if each.is_file():
            each.rename(folder / "blobs" / str(number))
            (folder / "snapshots" / "abc" / each.name).symlink_to(f"../../blobs/{number}")
    return folder / "snapshots" / "abc" / file.name


def test_models_and_compiled_ones_may_be_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_model, "CONTENT_LIMIT", 4 * WIDTH * WIDTH)
    (tmp_path / "in").mkdir()
    path = _linked(tmp_path / "hub", _model(tmp_path / "in"))
    compiled = convert(path, compile=fake_compile, known_failures=tmp_path, **OPTIONS)
    (tmp_path / "out").mkdir()
    assert len(compiled.save(tmp_path / "out" / "c.onnx", embed=False)) == 4
    made = _linked(tmp_path / "made", tmp_path / "out" / "c.onnx")
    assert CompiledModel.load(made) == compiled
    _agrees(made, path)


def test_weights_elsewhere_are_not_read(tmp_path: Path) -> None:
    path = _model(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "elsewhere" / "w.bin")
    (tmp_path / "model").mkdir()
    path = path.rename(tmp_path / "model" / "m.onnx")
    (tmp_path / "model" / "w.bin").symlink_to("../elsewhere/w.bin")
    with pytest.raises(ModelError, match=r"W0 lies outside the folder .*elsewhere.w\.bin: copy it there"):
        convert(path, compile=fake_compile, known_failures=tmp_path, **OPTIONS)


def test_the_bytes_alone_will_not_do(beside: Path) -> None:
    with pytest.raises(CompiledModelError, match=r"weights of the model are in c\.weights: give the model's path"):
        CompiledModel.load(beside.read_bytes())


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_what_is_wrong_with_the_file_beside_is_said(beside: Path, damage: str) -> None:
    weights = beside.with_suffix(".weights")
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CompiledModelError, match=r"weights beside .*c\.onnx cannot be read: .*Copy all its files"):
        CompiledModel.load(beside)
    with pytest.raises(Exception, match=r"weights beside .*c\.onnx cannot be read"):
        ort_rknn.InferenceSession(beside, providers=SIMULATED)


def test_parts_that_one_message_cannot_hold_are_cut_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _model(tmp_path)
    _limit_cuts(monkeypatch, 4 * WIDTH * WIDTH + 1)
    same = {**OPTIONS, "compile": fake_compile, "known_failures": tmp_path}
    on_npu = convert(path, **same | {"cpu_ops": frozenset()})
    assert [step.name for step in on_npu.steps] == ["npu_0", "npu_1"]
    on_cpu = convert(path, **same | {"cpu_ops": frozenset({"MatMul"})})
    assert [step.name for step in on_cpu.steps] == ["cpu_0", "npu_0", "cpu_1"]
    both = convert(path, **same | {"cpu_ops": frozenset({"MatMul", "Cos"})})
    assert [step.name for step in both.steps] == ["cpu_0", "cpu_1"]
    both.save(tmp_path / "c.onnx")
    assert CompiledModel.load(tmp_path / "c.onnx") == both
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, X)[0]
    session = ort_rknn.InferenceSession(tmp_path / "c.onnx", providers=SIMULATED)
    assert np.allclose(session.run(None, X)[0], expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))


def _language_model(folder: Path, words: int, width: int = 1024) -> Path:
    """ids [1, 16] -> the sum of two embeddings, three MatMuls: 8 kB a word, in ``m.weights``."""
    rng = np.random.default_rng(0)
    tensors = []
    at = 0
    with (folder / "m.weights").open("wb") as file:
        for name in ("E0", "E1"):
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[words, width])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "m.weights"), ("offset", at), ("length", 4 * words * width)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            for _ in range(0, words, 1000):
                at += file.write(rng.standard_normal((1000, width), np.float32).tobytes())
    for name in ("W0", "W1", "HEAD"):
        small = (rng.standard_normal((width, width), np.float32) / 32).tobytes()
        tensors.append(helper.make_tensor(name, TensorProto.FLOAT, [width, width], small, raw=True))
    nodes = [
        helper.make_node("Gather", ["E0", "ids"], ["e0"], "words"),
        helper.make_node("Gather", ["E1", "ids"], ["e1"], "types"),
        helper.make_node("Add", ["e0", "e1"], ["e"], "embedded"),
        helper.make_node("MatMul", ["e", "W0"], ["a"], "mm0"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "W1"], ["c"], "mm1"),
        helper.make_node("MatMul", ["c", "HEAD"], ["scores"], "head"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 16])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 16, width])
    graph = helper.make_graph(nodes, "lm", [ids], [scores], tensors)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    model.metadata_props.add(key="vocabulary", value="words " * 7000)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.slow
@pytest.mark.toolkit
@pytest.mark.timeout(1800)
def test_more_than_two_gigabytes_in_and_out(tmp_path: Path) -> None:
    """2.5 GB of weights in CPU nodes that would run together; takes 8.6 GB of memory (measured)."""
    words = 300_000
    path = _language_model(tmp_path, words)
    (tmp_path / "made").mkdir()
    kept = frozenset({"words", "types", "head"})
    files = convert(path, known_failures=tmp_path, min_gain=0, cpu_nodes=kept).save(tmp_path / "made" / "c.onnx")
    assert files[1].stat().st_size > 2**31
    (tmp_path / "made").rename(tmp_path / "moved")
    feed = {"ids": np.arange(16, dtype=np.int64)[None] * (words // 16)}
    plain = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected, metadata = plain.run(None, feed)[0], plain.get_modelmeta().custom_metadata_map
    del plain
    path.with_suffix(".weights").unlink()
    session = ort_rknn.InferenceSession(tmp_path / "moved" / "c.onnx", providers=SIMULATED)
    assert session.get_modelmeta().custom_metadata_map == metadata
    assert session.plan.npu_nodes == 4
    scores = session.run(None, feed)[0]
    assert np.linalg.norm(scores - expected) < 5e-3 * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_more_than_two_gigabytes_are_converted(tmp_path: Path) -> None:
    """2.3 GB of weights in a sparse file; takes 11.4 GB of memory (measured)."""
    path = _model(tmp_path, 17_000, sparse=True)
    compiled = convert(path, compile=fake_compile, known_failures=tmp_path, **OPTIONS)
    assert compiled.plan.npu_nodes == 2


def _one_huge_tensor(folder: Path, words: int, length: Any = 16, width: int = 4096) -> Path:
    """ids [1, length] -> an embedding of which four rows are not zero, two MatMuls: 16 kB a word, in ``m.weights``."""
    rng = np.random.default_rng(0)
    with (folder / "m.weights").open("wb") as file:
        for row in (0, 1, words // 2, words - 1):
            file.seek(4 * row * width)
            file.write(rng.standard_normal(width, np.float32).tobytes())
    embedding = TensorProto(name="E", data_type=TensorProto.FLOAT, dims=[words, width])
    embedding.data_location = TensorProto.EXTERNAL
    embedding.external_data.add(key="location", value="m.weights")
    tensors = [embedding]
    for name, shape in (("W0", (width, 32)), ("W1", (32, 32))):
        small = rng.standard_normal(shape, np.float32) / 32
        tensors.append(helper.make_tensor(name, TensorProto.FLOAT, shape, small.tobytes(), raw=True))
    nodes = [
        helper.make_node("Gather", ["E", "ids"], ["e"], "words"),
        helper.make_node("MatMul", ["e", "W0"], ["a"], "mm0"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "W1"], ["scores"], "mm1"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, length])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, length, 32])
    graph = helper.make_graph(nodes, "lm", [ids], [scores], tensors)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), folder / "m.onnx")
    return folder / "m.onnx"


WORDS = 100


def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedding is too large for one message."""
    _limit_cuts(monkeypatch, 4 * WORDS * 4096 - 1)
    monkeypatch.setattr(split_model, "CONTENT_LIMIT", 4 * WORDS * 4096 - 1)


def _huge_in_and_out(folder: Path, words: int) -> None:
    path = _one_huge_tensor(folder, words)
    feed = {"ids": np.int64([[0, 1, words // 2, words - 1] * 4])}
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)[0]
    assert np.abs(expected).max() > 0.1

    def agrees(source: Path, **options: Any) -> None:
        options = {"device": "simulator", "min_gain": 0, **options}
        session = ort_rknn.InferenceSession(source, providers=[("RKNNExecutionProvider", options)])
        assert session.plan.npu_nodes == 3
        assert "E has" in next(node.reason for node in session.plan.nodes if node.name == "words")
        scores = session.run(None, feed)[0]
        assert np.linalg.norm(scores - expected) < 5e-3 * np.linalg.norm(expected)

    with fake_toolkit(folder / "cache"):
        for cache in (folder / "cache", folder / "cache", Path("/dev/null/no cache")):
            agrees(path, cache_dir=str(cache))
    compiled = convert(path, compile=fake_compile, known_failures=folder, min_gain=0)
    (folder / "made").mkdir()
    files = compiled.save(folder / "made" / "c.onnx")
    assert [file.name for file in files] == ["c.onnx", "c.weights"]
    assert CompiledModel.load(files[0]) == compiled
    with pytest.raises(CompiledModelError, match="save it to a file"):
        compiled.to_bytes()
    (folder / "made").rename(folder / "moved")
    path.with_suffix(".weights").unlink()
    agrees(folder / "moved" / "c.onnx")


def test_a_weight_no_message_holds_stays_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _limit(monkeypatch)
    _huge_in_and_out(tmp_path, WORDS)


def test_nothing_as_large_is_computed_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _limit(monkeypatch)
    path = _one_huge_tensor(tmp_path, WORDS)
    model = onnx.load(path, load_external_data=False)
    model.graph.node.extend(
        [
            helper.make_node("MatMul", ["scores", "W2"], ["h"], "back"),
            helper.make_node("Transpose", ["E"], ["Et"], "tied", perm=[1, 0]),
            helper.make_node("MatMul", ["h", "Et"], ["logits"], "head"),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.full((32, 4096), 0.01, np.float32), "W2"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 16, WORDS]))
    onnx.save(model, path)
    compiled = convert(path, compile=fake_compile, known_failures=tmp_path, min_gain=0)
    reasons = {node.name: node.reason for node in compiled.plan.nodes if node.place == "CPU"}
    assert sorted(reasons) == ["head", "tied", "words"]
    assert "Et has" in reasons["head"]
    assert [name for step in compiled.cpu_steps for name, _ in SplitModel.of(step.model).weights.tensors] == ["E"]


def test_it_stays_there_in_a_file_of_several_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _limit(monkeypatch)
    path = _one_huge_tensor(tmp_path, WORDS, "N")
    wanted = [ConvertOptions(shapes={"ids": (1, length)}, min_gain=0) for length in (4, 8)]
    bundle = convert_bundle(path, wanted, compile=fake_compile, known_failures=tmp_path)
    (tmp_path / "out").mkdir()
    files = bundle.save(tmp_path / "out" / "c.onnx")
    assert files[0].stat().st_size + files[1].stat().st_size < 1.5 * 4 * WORDS * 4096
    session = ort_rknn.InferenceSession(files[0], providers=SIMULATED)
    plain = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for length in (4, 8, 5):
        feed = {"ids": np.resize(np.int64([0, 1, WORDS // 2, WORDS - 1]), (1, length))}
        scores, expected = (one.run(None, feed)[0] for one in (session, plain))
        assert np.linalg.norm(scores - expected) < 5e-3 * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_single_weight_of_more_than_two_gigabytes_in_and_out(tmp_path: Path) -> None:
    """2.3 GB, in a sparse file to begin with; three copies of it on the disk."""
    _huge_in_and_out(tmp_path, 140_000)
