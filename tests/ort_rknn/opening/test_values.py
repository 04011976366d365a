"""Inputs that are taken for constants: calls with those values run on the NPU, others on onnxruntime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

import ort_rknn
from ort_rknn.errors import InvalidOption
from ort_rknn.options.table import RknnOptions, make_provider_options
from ort_rknn_converters.compiled.bundle import Bundle
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.convert_many import convert_bundle
from tests.helpers.onnx_models import build, random
from tests.helpers.toolkits.fake import fake_toolkit

IMAGE = random(1, 3, 16, 16)
RATIOS = (0.5, 0.25, 0.75)


def scaled(width: int | str = 16) -> bytes:
    nodes = [
        helper.make_node("Concat", ["one", "ratio", "ratio"], ["scales"], axis=0),
        helper.make_node("Resize", ["x", "", "scales"], ["small"], mode="linear"),
        helper.make_node("Conv", ["small", "w"], ["y"]),
    ]
    constants = {"one": np.ones(2, np.float32), "w": random(4, 3, 3, 3)}
    inputs: dict[str, Any] = {"x": (TensorProto.FLOAT, [1, 3, 16, width]), "ratio": (TensorProto.FLOAT, [1])}
    return build(nodes, inputs, ["y"], constants, opset=17).SerializeToString()


def switched() -> bytes:
    """A branch by a switch, and a product whose shape a number of rows decides."""
    nodes = [
        helper.make_node("Where", ["on", "x", "zero"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["c"]),
        helper.make_node("Concat", ["rows", "rest"], ["shape"], axis=0),
        helper.make_node("Expand", ["c", "shape"], ["y"]),
    ]
    constants = {
        "zero": np.zeros((), np.float32),
        "rest": np.int64([4, 14, 14]),
        "w": random(4, 3, 3, 3),
    }
    inputs = {"x": IMAGE, "on": (TensorProto.BOOL, []), "rows": (TensorProto.INT64, [1])}
    return build(nodes, inputs, ["y"], constants, opset=17).SerializeToString()


def feed(ratio: float, width: int = 16) -> dict[str, Any]:
    return {"x": np.ascontiguousarray(IMAGE[..., :width]), "ratio": np.float32([ratio])}


def plain(model: bytes, feeds: Mapping[str, Any]) -> Any:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, dict(feeds))[0]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    def make(model: Any, **options: Any) -> Any:
        options = {"device": "simulator", "min_gain": 0, "cache_dir": str(tmp_path), **options}
        return ort_rknn.InferenceSession(model, providers=[("RKNNExecutionProvider", options), "CPUExecutionProvider"])

    with fake_toolkit(tmp_path / "cache"):
        yield make


@pytest.mark.parametrize("given", [{"ratio": 0.5, "on": True}, "ratio=0.5;on=true", {"ratio": "0.5", "on": "True"}])
def test_the_option_in_all_forms(given: object) -> None:
    assert RknnOptions.parse({"values": given}).values == {"ratio": ("0.5",), "on": ("true",)}


@pytest.mark.parametrize("given", ["ratio=0.25,0.5", "ratio=0.25;ratio=0.5", {"ratio": "0.25,0.5"}])
def test_several_values_in_text(given: object) -> None:
    assert RknnOptions.parse({"values": given}).values == {"ratio": ("0.25", "0.5")}
    text = make_provider_options(values=given)["values"]
    assert text == "ratio=0.25;ratio=0.5"
    assert make_provider_options(values=text)["values"] == text


@pytest.mark.toolkit
def test_calls_with_other_values_run_on_the_cpu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = scaled()
    options = {"device": "simulator", "min_gain": 0, "values": {"ratio": 0.5}, "cache_dir": str(tmp_path)}
    session = ort_rknn.InferenceSession(model, providers=[("RKNNExecutionProvider", options), "CPUExecutionProvider"])
    assert session.plan.npu_nodes == len(session.plan.nodes)
    with caplog.at_level(logging.WARNING):
        for ratio in RATIOS:
            got, want = session.run(None, feed(ratio))[0], plain(model, feed(ratio))
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, atol=2e-2)
    said = [record.message for record in caplog.records if "option values" in record.message]
    assert len(said) == 1
    assert "input ratio is [0.25], and the NPU code was made for 0.5" in said[0]


def _ways(session: Any, given: Mapping[str, Any]) -> Iterator[Any]:
    """The output, by every way to run a session."""
    values = {name: ort_rknn.OrtValue.ortvalue_from_numpy(array) for name, array in given.items()}
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    yield session.run(None, given)[0]
    yield session.submit(None, given).result()[0]
    yield session.run_with_ort_values(None, values)[0].numpy()
    yield binding.copy_outputs_to_cpu()[0]


@pytest.mark.parametrize("given", [{"ratio": [0.5, 0.25]}, "ratio=0.5,0.25", {"ratio": np.float32([0.5, 0.25])}])
def test_the_value_of_a_call_chooses_among_several(
    opened: Callable[..., Any], caplog: pytest.LogCaptureFixture, given: Any
) -> None:
    model = scaled()
    with opened(model, values=given) as session:
        assert [dict(state.values) for state in session.shape_states] == [{"ratio": "0.5"}, {"ratio": "0.25"}]
        assert {state.state for state in session.shape_states} == {"ready"}
        for runs, ratio in ((3, 0.5), (6, 0.25)):  # jobs are counted elsewhere
            for got in _ways(session, feed(ratio)):
                np.testing.assert_allclose(got, plain(model, feed(ratio)), atol=2e-2)
            assert session.stats().runs == runs
        with caplog.at_level(logging.WARNING):
            for got in _ways(session, feed(0.75)):
                assert np.array_equal(got, plain(model, feed(0.75)))
        assert session.stats().runs == 6
        notes = session.plan.notes
    said = [record.message for record in caplog.records if "option values" in record.message]
    assert said == [
        "input ratio is [0.75], and the NPU code was made for 0.5 or 0.25 (option values): such calls run on the CPU"
    ]
    assert "NPU code for ratio=0.5; ratio=0.25 (option values); calls with other values run on the CPU" in notes
    assert "the table is that of ratio=0.5" in notes
    assert any(note.startswith("ratio=0.25: ready after ") for note in notes)


def test_several_inputs_belong_together(opened: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    model = switched()
    options = {"on": [True, False], "rows": "[1],[2]"}
    with opened(model, values=options) as session, caplog.at_level(logging.WARNING):
        for runs, on, rows in ((1, True, 1), (2, False, 2), (2, True, 2)):
            given = {"x": IMAGE, "on": np.array(on), "rows": np.int64([rows])}
            np.testing.assert_allclose(session.run(None, given)[0], plain(model, given), atol=2e-2)
            assert session.stats().runs == runs
    said = [record.message for record in caplog.records if "option values" in record.message]
    assert said == [
        "inputs on is True and rows is [2], and the NPU code was made for on=true;rows=[1] or on=false;rows=[2] (option"
        " values): such calls run on the CPU"
    ]


def test_every_shape_has_every_value(opened: Callable[..., Any]) -> None:
    model = scaled("w")
    with opened(model, values="ratio=0.5,0.25", shapes="x=1x3x16x16;1x3x16x12") as session:
        names = [state.name for state in session.shape_states]
        assert names == [f"x=1x3x16x{width};ratio={ratio}" for width in (16, 12) for ratio in (0.5, 0.25)]
        for runs, (width, ratio) in enumerate([(16, 0.5), (12, 0.25), (12, 0.5)], 1):
            got = session.run(None, feed(ratio, width))[0]
            np.testing.assert_allclose(got, plain(model, feed(ratio, width)), atol=2e-2)
            assert session.stats().runs == runs


def test_an_open_shape_is_compiled_for_the_value_it_comes_with(opened: Callable[..., Any]) -> None:
    model = scaled("w")
    with opened(model, values="ratio=0.5,0.25") as session:
        for width, ratio in ((16, 0.5), (12, 0.25)):
            session.run(None, feed(ratio, width))
        assert session.wait_compiled(60)
        assert [state.name for state in session.shape_states] == ["x=1x3x16x16;ratio=0.5", "x=1x3x16x12;ratio=0.25"]
        for runs, (width, ratio) in enumerate([(16, 0.5), (12, 0.25)], 1):
            got = session.run(None, feed(ratio, width))[0]
            np.testing.assert_allclose(got, plain(model, feed(ratio, width)), atol=2e-2)
            assert session.stats().runs == runs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ration": 0.5}, r"the option values names 'ration', and the model has no input of that name; did you mean"),
        ({"ratio": [[0.5, 0.25]]}, r"values\['ratio'\] has shape \[1, 2\], and the input \[1\]. Several values are"),
        ("ratio=0.5,half", r"values\['ratio'\] is a number"),
    ],
)
def test_a_value_that_cannot_be(opened: Callable[..., Any], values: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        opened(scaled(), values=values)


def test_one_file_holds_several_values(opened: Callable[..., Any], tmp_path: Path) -> None:
    model = scaled()
    path = tmp_path / "several.onnx"
    wanted = [ConvertOptions(min_gain=0, values={"ratio": ratio}) for ratio in (0.5, 0.25)]
    bundle = convert_bundle(model, wanted, known_failures=tmp_path)
    assert [str(variant) for variant in bundle.variants] == ["rk3588 ratio=0.5", "rk3588 ratio=0.25"]
    bundle.save(path)
    with opened(str(path)) as session:
        assert "compiled for the values ratio=0.5; ratio=0.25; the CPU runs others" in session.plan.notes
        for runs, ratio in zip((1, 2, 2), RATIOS, strict=True):
            np.testing.assert_allclose(session.run(None, feed(ratio))[0], plain(model, feed(ratio)), atol=2e-2)
            assert session.stats().runs == runs
    Bundle(Bundle.load(path).variants).save(path)
    with opened(str(path)) as session:
        np.testing.assert_allclose(session.run(None, feed(0.25))[0], plain(model, feed(0.25)), atol=2e-2)
        with pytest.raises(InvalidArgument, match=r"no code for these input values.*there is ratio=0.5, ratio=0.25"):
            session.run(None, feed(0.75))
