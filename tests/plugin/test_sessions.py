"""Compiled models in plain onnxruntime: which are taken, and what is said about the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from ort_rknn_converters.compiled.bundle import Bundle, Variant
from tests.helpers.compiled_models import attributes, contexts, set_attribute
from tests.helpers.emulator import Emulator
from tests.helpers.plugin import MODELS, NAME, VERSION, emulated_sample, plugin_session, shim_session

Error = onnxruntime.capi.onnxruntime_pybind11_state


def feed(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32), "flag": np.array([bool(seed % 2)])}


def same(one: list[Any], other: list[Any]) -> None:
    assert [(a.dtype, a.shape, a.tobytes()) for a in one] == [(b.dtype, b.shape, b.tobytes()) for b in other]


@pytest.mark.parametrize("embed", [True, False])
@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize("targets", [("rk3588",), ("rk3566", "rk3588")])
def test_all_forms_give_the_numbers_of_the_packages_session(
    plugin: Emulator, tmp_path: Path, embed: bool, strip: bool, targets: tuple[str, ...]
) -> None:
    path = tmp_path / "model.onnx"
    emulated_sample(targets).save(path, embed=embed, strip=strip)
    plain = plugin_session(path, target="rk3588")
    assert plain.get_providers() == [NAME, "CPUExecutionProvider"]
    shim = shim_session(path)
    for seed in range(3):
        same(plain.run(None, feed(seed)), shim.run(None, feed(seed)))
        same(plain.run(["y"], feed(seed)), shim.run(["y"], feed(seed)))
    shim.close()


def test_the_alias_as_source_and_code_without_notes(plugin: Emulator, sample_path: Path, tmp_path: Path) -> None:
    model = onnx.load(sample_path)
    for node, name in zip(contexts(model), ("npu_0", "npu_1"), strict=True):
        set_attribute(node, "source", "RKNPU2ExecutionProvider")
        set_attribute(node, "notes", "")
        set_attribute(node, "ep_cache_context", MODELS[name].data())
    same(plugin_session(model.SerializeToString()).run(None, feed()), plugin_session(sample_path).run(None, feed()))


def test_nodes_of_other_providers_are_left_alone(plugin: Emulator, sample_path: Path) -> None:
    model = onnx.load(sample_path)
    set_attribute(contexts(model)[0], "source", "QNN")
    with pytest.raises((Error.NotImplemented, Error.InvalidGraph, Error.Fail), match="EPContext"):
        plugin_session(model.SerializeToString())


def test_bytes_with_code_beside_need_the_folder(plugin: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    emulated_sample().save(path, embed=False)
    with pytest.raises(
        Error.InvalidArgument, match=r"give the model's path, not its bytes, or .* ep.context_file_path"
    ):
        plugin_session(path.read_bytes())
    found = plugin_session(path.read_bytes(), entries={"ep.context_file_path": str(path)})
    same(found.run(None, feed()), plugin_session(path).run(None, feed()))


def test_code_that_is_gone_changed_or_elsewhere(plugin: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _, first, _ = emulated_sample().save(path, embed=False)
    content = first.read_bytes()
    first.write_bytes(content[:-1] + b"!")
    with pytest.raises(Error.InvalidGraph, match=r"damaged \(its digest differs\)"):
        plugin_session(path)
    first.write_bytes(b"")
    with pytest.raises(Error.InvalidGraph, match="empty"):
        plugin_session(path)
    first.unlink()
    with pytest.raises(Error.NoSuchFile, match=f"{first.name} is needed beside the model"):
        plugin_session(path)
    model = onnx.load(path)
    notes = json.loads(attributes(contexts(model)[0])["notes"])  # type: ignore[arg-type]
    notes["codes"][0]["file"] = "../secret"
    set_attribute(contexts(model)[0], "notes", json.dumps(notes))
    onnx.save(model, path)
    with pytest.raises(Error.InvalidGraph, match="which is not beside the model"):
        plugin_session(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda notes: notes["codes"][0].update(sha256="0" * 64), "digest differs"),
        (lambda notes: notes["codes"][0].update(size=10**9), "ends too early"),
        (lambda notes: notes["codes"][0].update(offset=2**64 - 1), "ends too early"),
        (lambda notes: notes["codes"][0].update(size=0), "is empty"),
        (lambda notes: notes["codes"][0].pop("offset"), "ends too early"),
        (lambda notes: notes["codes"].clear(), "is compiled for rk3588"),
    ],
)
def test_damaged_notes(plugin: Emulator, sample_path: Path, change: Callable[[Any], None], message: str) -> None:
    model = onnx.load(sample_path)
    notes = json.loads(attributes(contexts(model)[0])["notes"])  # type: ignore[arg-type]
    change(notes)
    set_attribute(contexts(model)[0], "notes", json.dumps(notes))
    with pytest.raises(Error.InvalidGraph, match=message):
        plugin_session(model.SerializeToString())


def test_notes_that_are_no_json_are_somebody_elses(plugin: Emulator, sample_path: Path) -> None:
    """All of the attribute is the code then; the rows of a table that begins must be whole."""
    model = onnx.load(sample_path)
    for text in ("{", "[]]]]", "\\", '"codes"', '{"codes"', "{{{{", '{"a": "\\', "[" * 1000):
        set_attribute(contexts(model)[0], "notes", text)
        plugin_session(model.SerializeToString()).run(None, feed())
    for text in ('{"codes": [', '{"codes": [{"target": "rk35', '{"codes": "x"}', '{"codes": {"a": [}', '{"codes": [}'):
        set_attribute(contexts(model)[0], "notes", text)
        with pytest.raises(Error.InvalidGraph):
            plugin_session(model.SerializeToString())


def test_code_for_another_soc(plugin: Emulator, sample_path: Path) -> None:
    with pytest.raises(Error.InvalidGraph, match=r"compiled for rk3588, this board is rk3566.*--target rk3566"):
        plugin_session(sample_path, target="rk3566")


def test_code_of_the_same_family_runs(plugin: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    emulated_sample(("rk3566",)).save(path)
    plugin.configure(cores=1)
    assert len(plugin_session(path, target="rk3568").run(None, feed())) == 4


def test_other_numbers_of_inputs_and_other_shapes(plugin: Emulator, sample_path: Path) -> None:
    from tests.helpers.emulator import Model, Tensor

    image = Tensor("q", "float16", (1, 4, 8, 8), "nhwc")
    wrong = Model((image, image), MODELS["npu_1"].outputs).data()
    model = onnx.load(sample_path)
    set_attribute(contexts(model)[1], "notes", "")
    set_attribute(contexts(model)[1], "ep_cache_context", wrong)
    with pytest.raises(Error.InvalidGraph, match=r"npu_1.*2 input\(s\) and 1 output\(s\), the segment has 1 and 1"):
        plugin_session(model.SerializeToString())
    wrong = Model((replace(image, shape=(1, 4, 8, 9)),), MODELS["npu_1"].outputs).data()
    set_attribute(contexts(model)[1], "ep_cache_context", wrong)
    with pytest.raises(Error.InvalidGraph, match=r"input 'q': the compiled code has shape \[1,4,8,9\], .* \[1,4,8,8\]"):
        plugin_session(model.SerializeToString())


def open_model(path: Path) -> None:
    """A model whose declared input is open; its code is for a width of 8."""
    compiled = emulated_sample()
    compiled.save(path)
    model = onnx.load(path)
    dim = model.graph.input[0].type.tensor_type.shape.dim[3]
    dim.ClearField("dim_value")
    dim.dim_param = "width"
    onnx.save(model, path)


def test_open_dimensions_follow_the_code(plugin: Emulator, sample_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    open_model(path)
    session = plugin_session(path)
    assert session.get_inputs()[0].shape == [1, 3, 8, "width"]
    same(session.run(None, feed()), plugin_session(sample_path).run(None, feed()))
    wide = feed() | {"x": np.zeros((1, 3, 8, 9), np.float32)}
    with pytest.raises(
        Error.InvalidArgument, match=r"input 'x' of segment npu_0 has shape \[1,3,8,9\] .* for \[1,3,8,8\] .* --shape"
    ):
        session.run(None, wide)


def bundle(shapes: tuple[tuple[int, ...], ...], path: Path) -> None:
    compiled = emulated_sample()
    variants = tuple(Variant({"x": shape}, ("rk3588",), lambda: compiled) for shape in shapes)
    Bundle(variants, None).save(path)


def test_bundles_of_several_shapes_are_refused_and_of_several_socs_run(plugin: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "bundle.onnx"
    bundle(((1, 3, 8, 8), (1, 3, 16, 16)), path)
    with pytest.raises(Error.NotImplemented, match=r"several input shapes.*one --shape, one file"):
        plugin_session(path)
    bundle(((1, 3, 8, 8), (1, 3, 8, 8)), path)
    assert len(plugin_session(path).run(None, feed())) == 4


@pytest.mark.skipif(VERSION < (1, 24), reason="1.23 does not say that a graph is a body")
def test_nodes_inside_control_flow_are_left_alone(plugin: Emulator, sample_path: Path) -> None:
    model = onnx.load(sample_path)
    inner = contexts(model)[1]
    body = helper.make_graph(
        [inner], "body", [], [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 4, 8, 8))]
    )
    other = helper.make_node("Identity", ["q"], ["y"], name="same")
    otherwise = helper.make_graph([other], "otherwise", [], list(body.output))
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=otherwise)],
        "inside",
        [
            helper.make_tensor_value_info("q", onnx.TensorProto.FLOAT, (1, 4, 8, 8)),
            helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, (1,)),
        ],
        list(body.output),
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=10)
    with pytest.raises((Error.NotImplemented, Error.InvalidGraph, Error.Fail), match="EPContext"):
        plugin_session(made.SerializeToString()).run(
            None, {"q": np.zeros((1, 4, 8, 8), np.float32), "flag": np.array([True])}
        )


def test_binding_profiles_and_assignment(plugin: Emulator, sample_path: Path, tmp_path: Path) -> None:
    session = plugin_session(sample_path)
    binding = session.io_binding()
    for name, value in feed().items():
        binding.bind_cpu_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    session.run_with_iobinding(binding)
    same(binding.copy_outputs_to_cpu(), session.run(None, feed()))
    with pytest.raises(Exception, match="disabled"):
        plugin_session(sample_path, entries={"session.disable_cpu_ep_fallback": "1"})


def test_a_compiled_model_is_not_compiled_again(plugin: Emulator, sample_path: Path, tmp_path: Path) -> None:
    with pytest.raises(Error.NotImplemented, match="this model is compiled already"):
        plugin_session(
            sample_path, entries={"ep.context_enable": "1", "ep.context_file_path": str(tmp_path / "again.onnx")}
        )
