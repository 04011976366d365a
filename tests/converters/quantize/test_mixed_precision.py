"""Int8 with a promise: the measures, the search, and what it finds with the real toolkit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.pipeline.convert import convert
from ort_rknn_converters.quantize.mixed_precision import MixedPrecision, Trade, fewest, loss, trade_table
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment
from tests.helpers.quantized import digit_samples, digit_tests, digits


def answers(*rows: list[float]) -> list[dict[str, np.ndarray]]:
    return [{"y": np.array([row], np.float32)} for row in rows]


class TestLoss:
    def test_cosine_is_the_mean_over_the_samples(self) -> None:
        assert loss("cosine", answers([1, 0], [1, 0]), answers([2, 0], [0, 1])) == pytest.approx(0.5)

    def test_relative_rms_is_over_all_samples(self) -> None:
        assert loss("rel-rms", answers([3, 4], [0, 0]), answers([3, 4], [0, 1])) == pytest.approx(0.2)

    def test_top1_counts_rows(self) -> None:
        assert loss("top1", answers([1, 2], [2, 1], [5, 4], [1, 3]), answers([0, 9], [9, 0], [1, 2], [0, 1])) == 0.25

    @pytest.mark.parametrize("metric", ["cosine", "rel-rms", "top1"])
    def test_equal_answers_lose_nothing(self, metric: str) -> None:
        assert loss(metric, answers([1, 2], [0, 0]), answers([1, 2], [0, 0])) == 0

    def test_numbers_that_are_none_lose_everything(self) -> None:
        assert loss("rel-rms", answers([1, 2]), answers([1, float("nan")])) == float("inf")

    def test_the_worst_output_counts_and_whole_numbers_do_not(self) -> None:
        want = [{"a": np.ones((1, 2)), "b": np.ones((1, 2)), "i": np.array([1])}]
        got = [{"a": np.ones((1, 2)), "b": np.ones((1, 2)) * 1.5, "i": np.array([7])}]
        assert loss("rel-rms", want, got) == pytest.approx(0.5)


class TestFewest:
    @pytest.mark.parametrize("needed", [{"a"}, {"c"}, {"a", "d"}, set("abcdef")])
    def test_what_is_not_needed_is_left_out(self, needed: set[str]) -> None:
        assert fewest("abcdef", lambda some: needed <= set(some)) == needed

    def test_one_is_the_least(self) -> None:
        assert fewest("abc", lambda some: True) == {"c"} or fewest("abc", lambda some: True) == {"a"}

    def test_all_where_nothing_helps(self) -> None:
        assert fewest("abc", lambda some: False) == {"a", "b", "c"}


def test_the_table_has_a_row_a_build() -> None:
    trades = (Trade("int8", 4_100_000, 0, 54, 0.01), Trade("mixed", 5_000_000, 7, 54, 0.0004))
    text = trade_table("y", MixedPrecision(None, trades, True), 0.001, "cosine", 16)  # type: ignore[arg-type]
    head, plain, mixed = text.splitlines()
    assert head == "accuracy of y: at most 0.001 by cosine over 16 calibration samples, simulated: reached"
    assert "4,100 kB" in plain
    assert "7 of 54 layers float16" in mixed


def outlier() -> onnx.ModelProto:
    """A CNN of which one layer has a channel a hundred times as strong as the others: one scale for all spoils it."""
    random = np.random.default_rng(3)
    body = """a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1) b = Relu (a)
        c = Conv <pads = [1, 1, 1, 1]> (b, w2)
        d = Relu (c) e = Conv (d, w3) f = Relu (e) g = Conv <pads = [1, 1, 1, 1]> (f, w4) h = Relu (g)
        i = Conv <pads = [1, 1, 1, 1]> (h, w5) j = Relu (i) y = GlobalAveragePool (j)"""
    graph = parse_graph(f"g (float[1,3,32,32] x) => (float[1,16,1,1] y) {{ {body} }}")
    shapes = {
        "w1": (16, 3, 3, 3),
        "w2": (16, 16, 3, 3),
        "w3": (16, 16, 1, 1),
        "w4": (16, 16, 3, 3),
        "w5": (16, 16, 3, 3),
    }
    for name, shape in shapes.items():
        array = (random.normal(size=shape) * 1.4 / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        if name == "w2":
            array[0] *= 100
        if name == "w3":
            array[:, 0] /= 100
        graph.initializer.append(numpy_helper.from_array(array, name))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


IMAGES = np.random.default_rng(2).uniform(0, 1, (16, 1, 3, 32, 32)).astype(np.float32)


@pytest.mark.toolkit
class TestRealToolkit:
    def test_layers_asked_for_are_float16(self) -> None:
        samples = [{"image": array} for array in digit_samples(10)]
        options = {"dataset": samples, "float16": ("conv1", "norm1", "relu1")}
        request = CompileRequest(digits().SerializeToString(), "rk3588", "int8", (samples[0],), options=options)
        result = compile_segment(request)
        tensors = reader.read_rknn(result.rknn).tensors
        assert {name: tensors[name].dtype for name in ("relu0", "relu1", "relu2", "conv1.weight", "conv2.weight")} == {
            "relu0": "int8",
            "relu1": "float16",
            "relu2": "int8",
            "conv1.weight": "float16",
            "conv2.weight": "int8",
        }
        assert result.outputs[0]["probabilities"].shape == (1, 10)

    def test_the_layer_that_spoils_it_becomes_float16(self, tmp_path: Path) -> None:
        fields: dict[str, Any] = {"calibration": {"x": IMAGES}, "min_gain": 0, "known_failures": tmp_path}
        plan = convert(outlier(), precision="int8", max_loss=0.001, **fields).plan
        (note,) = (note for note in plan.notes if note.startswith("accuracy of"))
        head, plain, *_, last = note.splitlines()
        assert head.endswith("reached")
        assert "NOT" not in head
        assert float(plain.split()[-1]) > 0.001 >= float(last.split()[-1])
        assert last.split()[0] == "mixed"
        assert int(last.split()[3]) <= 2

    def test_digits_lose_no_answer(self, tmp_path: Path) -> None:
        from ort_rknn.devices.program import Program
        from ort_rknn.devices.simulator import SimulatorDevice

        fields: dict[str, Any] = {
            "calibration": {"image": digit_samples(100)},
            "min_gain": 0,
            "known_failures": tmp_path,
        }
        compiled = convert(digits(), precision="int8", max_loss=0.005, metric="top1", **fields)
        lane = Program(compiled, SimulatorDevice()).open_lane(0)
        images, labels = digit_tests()
        found = np.array([np.argmax(lane.run(0, [image[np.newaxis]])[0]) for image in images])  # type: ignore[arg-type]
        import onnxruntime

        session = onnxruntime.InferenceSession(digits().SerializeToString())
        exact = np.array([session.run(None, {"image": image[np.newaxis]})[0].argmax() for image in images])
        assert np.mean(exact == labels) - np.mean(found == labels) <= 0.005
        assert np.mean(exact != found) <= 0.005

    def test_a_promise_that_float16_keeps(self, tmp_path: Path) -> None:
        fields: dict[str, Any] = {
            "calibration": {"image": digit_samples(30)},
            "min_gain": 0,
            "known_failures": tmp_path,
        }
        plan = convert(digits(), precision="int8", max_loss=1e-3, metric="rel-rms", **fields).plan
        (note,) = plan.notes
        assert " reached" in note
        assert float(note.split()[-1]) <= 1e-3
