"""Values beyond fp16 go to the CPU although the comparison passes; masks do not."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.graph.onnx_graph import load
from ort_rknn_converters.numerics.overflow import MARGIN, entering_peaks, overflows, possible_overflows
from ort_rknn_converters.pipeline.convert import convert
from tests.helpers.conversions import assert_same, image, model
from tests.helpers.toolkits.scripted import VERSION, ScriptedToolkit

SUM = """
    b = Mul (x, k) q = Abs (b) n = ReduceSum <keepdims = 1> (q, plane) d = Mul (n, r) t = Tanh (d)
    c = Conv (x, v) y = Add (c, t)
"""
ATTENTION = "a = Conv (x, v) m = Where (visible, a, lowest) p = Softmax <axis = -1> (m) y = Conv (p, v)"


def summed(size: float | NDArray[np.float32] = 2000.0) -> onnx.ModelProto:
    """Large sums inside, made small again before anybody sees them: fp16 answers almost the same."""
    proto = model(SUM)
    constants = {"k": np.atleast_1d(np.float32(size)), "r": np.float32([1e-5]), "plane": np.int64([2, 3])}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return proto


def attention() -> onnx.ModelProto:
    proto = model(ATTENTION)
    constants = {"visible": np.tril(np.ones((1, 1, 8, 8), bool)), "lowest": np.float32(-3.4e38)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return proto


def reasons(compiled: CompiledModel) -> dict[str, str]:
    return {node.op_type: node.reason for node in compiled.plan.nodes if node.place == "CPU"}


class TestOverflows:
    BODY = "a = Mul (x, x) b = Sqrt (a) y = Relu (b)"

    def test_the_maker_and_who_reads_it(self) -> None:
        assert self.named({"a": 107000.0, "b": 327.0, "x": 327.0, "y": 327.0}) == {
            "Mul": "its values reach 1.1e+05, beyond fp16's 65504",
            "Sqrt": "its input a reaches 1.1e+05, beyond fp16's 65504",
        }

    def test_what_enters(self) -> None:
        assert self.named({"x": 7e4}) == {"Mul": "its input x reaches 7e+04, beyond fp16's 65504"}

    def test_what_real_inputs_might_reach(self) -> None:
        assert self.named({"a": 33000.0}) == {
            "Mul": "its values reach 3.3e+04, on other inputs perhaps beyond fp16's 65504",
            "Sqrt": "its input a reaches 3.3e+04, on other inputs perhaps beyond fp16's 65504",
        }

    @pytest.mark.parametrize("peak", [65504.0 / MARGIN, math.inf])
    def test_what_fp16_has(self, peak: float) -> None:
        assert self.named({"a": peak}) == {}

    def test_a_mask_on_its_way(self) -> None:
        nodes = DataFlow.of(load(attention()).graph).nodes
        assert overflows(nodes, nodes, {"m": 3.4e38}) == {}
        assert list(overflows(nodes, nodes, {"a": 7e4, "m": 3.4e38}).values()) == [
            "its values reach 7e+04, beyond fp16's 65504"
        ]

    def named(self, peaks: dict[str, float]) -> dict[str, str]:
        loaded = load(model(self.BODY))
        nodes = DataFlow.of(loaded.graph).nodes
        for node in nodes:
            node.name = node.op_type
        return overflows(nodes, nodes, peaks)


def test_entering_peaks() -> None:
    feeds: list[dict[str, NDArray[Any]]] = [
        {"x": np.array([1, -3, np.inf], np.float32), "i": np.array([9], np.int32)},
        {"x": np.array([2, np.nan, 0], np.float16)},
    ]
    assert entering_peaks(feeds) == {"x": 3.0}
    assert entering_peaks([{"x": np.zeros((0, 2), np.float32)}]) == {"x": 0.0}


class TestPossible:
    def notes(self, peaks: dict[str, float]) -> list[str]:
        proto = onnx.shape_inference.infer_shapes(summed())
        return list(possible_overflows(DataFlow.of(load(proto).graph).nodes, peaks))

    def test_a_sum_of_many(self) -> None:
        (note,) = self.notes({"q": 2000.0, "n": 30000.0})
        assert "n adds 64 values of up to 2e+03; that might reach 1.3e+05, beyond fp16's 65504" in note

    def test_of_small_ones(self) -> None:
        assert not self.notes({"q": 1000.0, "n": 30000.0})

    def test_what_did_overflow_needs_no_guess(self) -> None:
        assert not self.notes({"q": 2000.0, "n": 70000.0})


class TestConversions:
    @pytest.fixture(autouse=True)
    def _toolkit_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.modules["ort_rknn_converters.pipeline.convert"], "toolkit_version", lambda: VERSION)

    def test_a_sum_that_overflows_goes_to_the_cpu_though_it_verifies(self, tmp_path: Path) -> None:
        compiled = convert(summed(), min_gain=0, compile=ScriptedToolkit(), known_failures=tmp_path)
        assert_overflow(compiled)
        assert_same(compiled, summed(), image())

    def test_it_is_not_remembered_of_other_models(self, tmp_path: Path) -> None:
        convert(summed(), min_gain=0, compile=ScriptedToolkit(), known_failures=tmp_path)
        assert convert(summed(1.0), min_gain=0, compile=ScriptedToolkit(), known_failures=tmp_path).plan.npu_share == 1

    def test_a_sum_that_might_is_noted(self, tmp_path: Path) -> None:
        one_large = np.ones((8, 8), np.float32)
        one_large[0, 0] = 2000
        compiled = convert(summed(one_large), min_gain=0, compile=ScriptedToolkit(), known_failures=tmp_path)
        assert compiled.plan.npu_share == 1
        assert any("might reach" in note and "on other inputs" in note for note in compiled.plan.notes)

    def test_masked_attention_stays(self, tmp_path: Path) -> None:
        compiled = convert(attention(), min_gain=0, compile=ScriptedToolkit(), known_failures=tmp_path)
        assert compiled.plan.npu_share == 1


@pytest.mark.toolkit
class TestRealToolkit:
    def test_a_sum_that_overflows(self, tmp_path: Path) -> None:
        compiled = convert(summed(), min_gain=0, known_failures=tmp_path)
        assert_overflow(compiled)
        assert_same(compiled, summed(), image())

    def test_masked_attention(self, tmp_path: Path) -> None:
        assert convert(attention(), min_gain=0, known_failures=tmp_path).plan.npu_share == 1


def assert_overflow(compiled: CompiledModel) -> None:
    found = reasons(compiled)
    assert "ReduceSum" in found
    assert found["ReduceSum"].startswith("its values reach 1.")
    assert found["ReduceSum"].endswith("e+05, beyond fp16's 65504")
    assert compiled.plan.npu_nodes >= 3
