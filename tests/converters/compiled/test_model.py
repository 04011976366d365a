"""The compiled model's values and its EPContext form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.values import CpuStep
from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file import split_model
from tests.helpers.compiled_models import LONG_VALUE, attributes, contexts, original, sample, set_attribute


@pytest.mark.parametrize("embed", [True, False])
@pytest.mark.parametrize("targets", [("rk3588",), ("rk3588", "rk3576")])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, embed: bool, targets: tuple[str, ...]) -> None:
    compiled = sample(targets)
    files = compiled.save(tmp_path / "m.onnx", embed=embed)
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert len(files) == (1 if embed else 1 + 2 * len(targets))
    assert CompiledModel.load(tmp_path / "m.onnx") == compiled


def test_bytes_load_as_the_file_does() -> None:
    compiled = sample()
    assert CompiledModel.load(compiled.to_bytes()) == compiled


def test_the_steps_compute_what_the_model_does() -> None:
    compiled = CompiledModel.load(sample().to_bytes())
    feeds = {"x": np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32), "flag": np.array([True])}
    values = dict(feeds)
    for step in compiled.steps:
        blob = step.model if isinstance(step, CpuStep) else step.onnx
        assert blob is not None
        names = [value if isinstance(value, str) else value.name for value in step.outputs]
        inputs = {value if isinstance(value, str) else value.name for value in step.inputs}
        session = ort.InferenceSession(blob.read())
        values |= dict(zip(names, session.run(names, {name: values[name] for name in inputs}), strict=True))
    session = ort.InferenceSession(original().SerializeToString())
    names = [output.name for output in session.get_outputs()]
    for name, expected in zip(names, session.run(names, feeds), strict=True):
        np.testing.assert_allclose(values[name], expected, rtol=1e-6)


@pytest.mark.parametrize("strip", [True, False])
def test_the_file_is_valid_onnx(tmp_path: Path, strip: bool) -> None:
    sample().save(tmp_path / "m.onnx", strip=strip)
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)


def test_the_outside_of_the_original_survives_whole() -> None:
    before, after = original(), sample().to_onnx()
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(after, field) == getattr(before, field)
    assert (after.graph.name, after.graph.doc_string) == (before.graph.name, before.graph.doc_string)
    metadata = {entry.key: entry.value for entry in after.metadata_props}
    assert metadata["names"] == LONG_VALUE
    assert metadata["stride"] == "32"
    stub = ort.InferenceSession(CompiledModel.load(after.SerializeToString()).stub.read(), _unoptimized())
    assert stub.get_modelmeta().custom_metadata_map == {"names": LONG_VALUE, "stride": "32"}


def _unoptimized() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def test_the_nodes_follow_onnxruntimes_convention() -> None:
    nodes = contexts(sample(("rk3588", "rk3576")).to_onnx())
    assert [list(node.input) for node in nodes] == [["x"], ["q"]]
    assert [list(node.output) for node in nodes] == [["m"], ["y"]]
    found = attributes(nodes[0])
    assert (found["main_context"], found["embed_mode"]) == (1, 1)
    assert found["source"] == b"RKNNExecutionProvider"
    assert found["ep_sdk_version"] == b"2.5.0"
    assert found["hardware_architecture"] == b"rk3588,rk3576"
    assert found["partition_name"] == b"npu_0"


def test_onnxruntime_alone_says_whose_model_it_is() -> None:
    with pytest.raises(Exception, match="RKNNExecutionProvider"):
        ort.InferenceSession(sample().to_bytes())


def test_code_beside_the_file_is_a_plain_rknn_file(tmp_path: Path) -> None:
    compiled = sample()
    compiled.save(tmp_path / "net.rknn.onnx", embed=False)
    beside = tmp_path / "net.rknn_RKNNExecutionProvider_npu_0.rknn"
    assert beside.read_bytes() == compiled.npu_steps[0].code["rk3588"].read()
    assert attributes(contexts(onnx.load(tmp_path / "net.rknn.onnx"))[0])["ep_cache_context"] == beside.name.encode()
    assert CompiledModel.load(tmp_path / "net.rknn.onnx").npu_steps[0].code["rk3588"].path == str(beside)


def test_strip_drops_the_segments_and_their_weights() -> None:
    whole, stripped = sample().to_onnx(), sample().to_onnx(strip=True)
    assert [function.name for function in whole.functions] == ["npu_0", "npu_1"]
    assert {tensor.name for tensor in whole.graph.initializer} == {"w", "b", "k", "scale", "fixed"}
    assert not stripped.functions
    assert {tensor.name for tensor in stripped.graph.initializer} == {"k", "fixed"}
    loaded = CompiledModel.load(stripped.SerializeToString())
    assert all(step.onnx is None for step in loaded.npu_steps)
    assert loaded.cpu_steps == sample().cpu_steps


def test_a_model_too_big_for_one_file_keeps_its_weights_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = sample()
    big = _with_big_weights(compiled)
    monkeypatch.setattr(split_model, "CONTENT_LIMIT", 150_000)
    files = big.save(tmp_path / "m.onnx")
    assert [file.name for file in files] == ["m.onnx", "m.weights"]
    assert (tmp_path / "m.onnx").stat().st_size < 150_000
    assert CompiledModel.load(tmp_path / "m.onnx") == big
    (tmp_path / "m.weights").unlink()
    with pytest.raises(CompiledModelError, match="Copy all its files"):
        CompiledModel.load(tmp_path / "m.onnx")


def _with_big_weights(compiled: CompiledModel) -> CompiledModel:
    from dataclasses import replace

    from ort_rknn_converters.onnx_file.split_model import SplitModel

    step = compiled.npu_steps[1]
    assert step.onnx is not None
    part = onnx.ModelProto.FromString(step.onnx.read())
    part.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 200, 200), np.float32), "scale"))
    data = SplitModel.parse(part.SerializeToString(deterministic=True))
    steps = tuple(replace(one, onnx=data) if one is step else one for one in compiled.steps)
    return replace(compiled, steps=steps)


class TestSavingFails:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CompiledModelError, match="there is no folder"):
            sample().save(tmp_path / "missing" / "m.onnx")

    def test_the_path_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CompiledModelError, match="is a folder"):
            sample().save(tmp_path)

    def test_what_is_no_file_is_not_replaced_by_one(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "m.onnx")
        with pytest.raises(CompiledModelError, match="is no regular file"):
            sample().save(tmp_path / "m.onnx")
        assert (tmp_path / "m.onnx").is_fifo()

    @pytest.mark.parametrize("embed", [True, False])
    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embed: bool) -> None:
        (tmp_path / "m.onnx").write_bytes(b"before")
        calls = 0

        def full(handle: int, mode: str) -> IO[bytes]:
            nonlocal calls
            calls += 1
            if calls == (1 if embed else 3):
                os.close(handle)
                return Path("/dev/full").open(mode)
            return opened(handle, mode)

        opened = os.fdopen
        monkeypatch.setattr(os, "fdopen", full)
        with pytest.raises(CompiledModelError, match="No space left"):
            sample().save(tmp_path / "m.onnx", embed=embed)
        assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
        assert (tmp_path / "m.onnx").read_bytes() == b"before"


class TestLoadingFails:
    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            CompiledModel.load(tmp_path / "none.onnx")

    def test_not_onnx(self) -> None:
        with pytest.raises(CompiledModelError, match="not an ONNX file"):
            CompiledModel.load(b"\xff" * 100)

    def test_cut_short(self) -> None:
        data = sample().to_bytes()
        with pytest.raises(CompiledModelError, match="cut short"):
            CompiledModel.load(data[: len(data) // 2])

    def test_plain_onnx(self) -> None:
        with pytest.raises(CompiledModelError, match="not a compiled model"):
            CompiledModel.load(original().SerializeToString())

    def test_another_provider(self) -> None:
        model = sample().to_onnx()
        set_attribute(contexts(model)[0], "source", "QNNExecutionProvider")
        with pytest.raises(CompiledModelError, match="compiled for QNNExecutionProvider"):
            CompiledModel.load(model.SerializeToString())

    def test_a_newer_form(self) -> None:
        model = sample().to_onnx()
        next(entry for entry in model.metadata_props if entry.key == "ort_rknn.version").value = "99"
        with pytest.raises(CompiledModelError, match="has form 99"):
            CompiledModel.load(model.SerializeToString())

    def test_damaged_code_inside(self) -> None:
        model = sample().to_onnx()
        node = contexts(model)[1]
        payload = bytearray(attributes(node)["ep_cache_context"])  # type: ignore[call-overload]
        payload[10] ^= 1
        set_attribute(node, "ep_cache_context", bytes(payload))
        with pytest.raises(CompiledModelError, match=r"code of npu_1 .* is damaged"):
            CompiledModel.load(model.SerializeToString())

    def test_damaged_code_beside(self, tmp_path: Path) -> None:
        beside = sample().save(tmp_path / "m.onnx", embed=False)[1]
        beside.write_bytes(beside.read_bytes()[:-1])
        with pytest.raises(CompiledModelError, match="is damaged"):
            CompiledModel.load(tmp_path / "m.onnx")

    def test_missing_code_beside(self, tmp_path: Path) -> None:
        sample().save(tmp_path / "m.onnx", embed=False)[1].unlink()
        with pytest.raises(CompiledModelError, match="Copy both files together"):
            CompiledModel.load(tmp_path / "m.onnx")

    def test_code_beside_needs_a_path(self, tmp_path: Path) -> None:
        sample().save(tmp_path / "m.onnx", embed=False)
        with pytest.raises(CompiledModelError, match="give the model's path"):
            CompiledModel.load((tmp_path / "m.onnx").read_bytes())

    @pytest.mark.parametrize("name", ["../m.rknn", "/etc/passwd", ""])
    def test_code_elsewhere_is_not_read(self, tmp_path: Path, name: str) -> None:
        sample().save(tmp_path / "m.onnx", embed=False)
        model = onnx.load(tmp_path / "m.onnx")
        node = contexts(model)[0]
        notes = json.loads(attributes(node)["notes"])  # type: ignore[arg-type]
        notes["codes"][0]["file"] = name
        set_attribute(node, "notes", json.dumps(notes))
        onnx.save(model, tmp_path / "m.onnx")
        with pytest.raises(CompiledModelError, match="not beside it"):
            CompiledModel.load(tmp_path / "m.onnx")

    @pytest.mark.parametrize("change", ["nodes", "attribute", "metadata", "weights", "json"])
    def test_whatever_else_is_missing(self, change: str) -> None:
        model = sample().to_onnx()
        if change == "nodes":
            del model.graph.node[-1]
        elif change == "attribute":
            del contexts(model)[0].attribute[-1]
        elif change == "metadata":
            kept = [entry for entry in model.metadata_props if entry.key != "ort_rknn.plan"]
            del model.metadata_props[:]
            model.metadata_props.extend(kept)
        elif change == "weights":
            del model.graph.initializer[:]
        else:
            next(entry for entry in model.metadata_props if entry.key == "ort_rknn.steps").value = "{"
        with pytest.raises(CompiledModelError, match="again"):
            CompiledModel.load(model.SerializeToString())

    def test_a_node_was_added(self) -> None:
        model = sample().to_onnx()
        model.graph.node.append(helper.make_node("Relu", ["y"], ["more"]))
        with pytest.raises(CompiledModelError, match="changed after"):
            CompiledModel.load(model.SerializeToString())


def test_a_models_repr_is_one_line() -> None:
    compiled = sample()
    code = sum(blob.size for step in compiled.npu_steps for blob in step.code.values())
    assert repr(compiled) == (
        f"<CompiledModel for {', '.join(compiled.targets)}, {code} bytes of NPU code; .plan has more>"
    )


@pytest.mark.parametrize("place", ["input", "output"])
def test_steps_that_read_what_nobody_makes_are_refused(place: str) -> None:
    model = sample().to_onnx()
    getattr(model.graph, place)[0].name = "another\x1b"
    with pytest.raises(CompiledModelError, match="is damaged"):
        CompiledModel.load(model.SerializeToString())
