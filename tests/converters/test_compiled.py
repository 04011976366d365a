"""The compiled model's values and its EPContext form."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from ort_rknn_converters import epcontext
from ort_rknn_converters.compiled import CompiledModel, CpuStep, NpuStep, is_compiled
from ort_rknn_converters.errors import CompiledModelError

from tests.helpers.compiled_models import LONG_VALUE, original, sample


def contexts(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "EPContext"]


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


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
    shell = ort.InferenceSession(CompiledModel.load(after.SerializeToString()).shell.read(), _unoptimized())
    assert shell.get_modelmeta().custom_metadata_map == {"names": LONG_VALUE, "stride": "32"}


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
    monkeypatch.setattr(epcontext, "_INSIDE_LIMIT", 150_000)
    files = big.save(tmp_path / "m.onnx")
    assert [file.name for file in files] == ["m.onnx", "m.weights"]
    assert (tmp_path / "m.onnx").stat().st_size < 150_000
    assert CompiledModel.load(tmp_path / "m.onnx") == big
    (tmp_path / "m.weights").unlink()
    with pytest.raises(CompiledModelError, match="Copy all its files"):
        CompiledModel.load(tmp_path / "m.onnx")


def _with_big_weights(compiled: CompiledModel) -> CompiledModel:
    from dataclasses import replace

    from ort_rknn_converters.compiled import BytesBlob

    step = compiled.npu_steps[1]
    assert step.onnx is not None
    part = onnx.ModelProto.FromString(step.onnx.read())
    part.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 200, 200), np.float32), "scale"))
    data = BytesBlob(part.SerializeToString(deterministic=True))
    steps = tuple(replace(one, onnx=data) if one is step else one for one in compiled.steps)
    return replace(compiled, steps=steps)


class TestSavingFails:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CompiledModelError, match="there is no folder"):
            sample().save(tmp_path / "missing" / "m.onnx")

    def test_the_path_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CompiledModelError, match="is a folder"):
            sample().save(tmp_path)

    @pytest.mark.parametrize("embed", [True, False])
    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embed: bool) -> None:
        (tmp_path / "m.onnx").write_bytes(b"before")
        calls = 0

        def full(_: int) -> None:
            nonlocal calls
            calls += 1
            if calls == (1 if embed else 3):
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
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


class TestIsCompiled:
    def test_ours(self, tmp_path: Path) -> None:
        sample().save(tmp_path / "m.onnx")
        assert is_compiled(tmp_path / "m.onnx")
        assert is_compiled(str(tmp_path / "m.onnx"))
        assert is_compiled(sample().to_bytes())

    def test_others(self, tmp_path: Path) -> None:
        assert not is_compiled(original().SerializeToString())
        foreign = sample().to_onnx()
        for node in contexts(foreign):
            set_attribute(node, "source", "QNN")
        del foreign.metadata_props[:]
        assert not is_compiled(foreign.SerializeToString())

    @pytest.mark.parametrize(
        "data", [b"", b"\x00" * 50, b"\xff" * 50, b"RKNN\0\0\0\0", b"EPContext RKNNExecutionProvider"]
    )
    def test_no_onnx_at_all(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "m.onnx").write_bytes(data)
        assert not is_compiled(tmp_path / "m.onnx")
        assert not is_compiled(data)

    def test_cut_anywhere(self) -> None:
        data = sample().to_bytes()
        for length in range(0, len(data), 997):
            is_compiled(data[:length])

    def test_a_node_or_the_metadata_is_enough(self) -> None:
        no_metadata, no_node = sample().to_onnx(), sample().to_onnx()
        del no_metadata.metadata_props[:]
        del no_node.graph.node[:]
        assert is_compiled(no_metadata.SerializeToString())
        assert is_compiled(no_node.SerializeToString())

    def test_the_alias_counts(self) -> None:
        model = sample().to_onnx()
        del model.metadata_props[:]
        set_attribute(contexts(model)[0], "source", "RKNPU2ExecutionProvider")
        assert is_compiled(model.SerializeToString())

    def test_weights_are_not_read(self) -> None:
        """A hundred megabytes of weights cost nothing: the walk steps over them."""
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
        graph.initializer.append(TensorProto(name="w", data_type=1, dims=[1], raw_data=bytes(4)))
        head = helper.make_model(graph).SerializeToString()
        steps: list[int] = []

        class Counted(bytes):
            def __getitem__(self, key: object) -> object:
                steps.append(1)
                return super().__getitem__(key)  # type: ignore[call-overload]

        from ort_rknn_converters import wire

        wire._scan(Counted(head))
        small = len(steps)
        graph.initializer[0].raw_data = bytes(10_000_000)
        steps.clear()
        wire._scan(Counted(helper.make_model(graph).SerializeToString()))
        assert len(steps) < small + 20

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            is_compiled(tmp_path / "none.onnx")


class TestPieces:
    def test_what_is_saved_is_what_is_loaded(self, tmp_path: Path) -> None:
        compiled = sample(("rk3588", "rk3576"))
        compiled.save_pieces(tmp_path / "p")
        assert CompiledModel.load_pieces(tmp_path / "p") == compiled

    def test_code_stays_on_disk(self, tmp_path: Path) -> None:
        sample().save_pieces(tmp_path)
        step = CompiledModel.load_pieces(tmp_path).npu_steps[0]
        assert isinstance(step, NpuStep)
        assert step.code["rk3588"].path == str(tmp_path / "npu_0.rk3588.rknn")

    @pytest.mark.parametrize(
        "how", ["missing folder", "missing file", "short file", "changed file", "manifest", "form"]
    )
    def test_damage_is_noticed(self, tmp_path: Path, how: str) -> None:
        folder = tmp_path / "p"
        if how != "missing folder":
            sample().save_pieces(folder)
        code, manifest = folder / "npu_0.rk3588.rknn", folder / "manifest.json"
        if how == "missing file":
            code.unlink()
        elif how == "short file":
            code.write_bytes(code.read_bytes()[:-1])
        elif how == "changed file":
            data = bytearray(code.read_bytes())
            data[500] ^= 1
            code.write_bytes(data)
        elif how == "manifest":
            manifest.write_text(manifest.read_text()[:-100])
        elif how == "form":
            manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 0'))
        with pytest.raises(CompiledModelError):
            CompiledModel.load_pieces(folder)

    def test_a_copied_folder_is_good(self, tmp_path: Path) -> None:
        sample().save_pieces(tmp_path / "p")
        for file in (tmp_path / "p").iterdir():
            os.utime(file, (1, 1))
        assert CompiledModel.load_pieces(tmp_path / "p") == sample_again(tmp_path / "p")

    def test_loading_imports_nothing_heavy(self, tmp_path: Path) -> None:
        sample().save_pieces(tmp_path)
        code = (
            "import sys; from ort_rknn_converters.compiled import CompiledModel;"
            f"c = CompiledModel.load_pieces({str(tmp_path)!r}); c.npu_steps[0].code['rk3588'].read();"
            "print([m for m in ('onnx', 'onnx_ir', 'onnxruntime', 'numpy', 'google') if m in sys.modules])"
        )
        env = os.environ | {"PYTHONPATH": os.pathsep.join(["converters"])}
        found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]"


def sample_again(folder: Path) -> CompiledModel:
    return CompiledModel.load_pieces(folder)
