"""Comparison, reference and verdict; the feeds have their own file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.parser import parse_graph

from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.numerics.tolerance import Reference, reference, softmax_outputs, tolerance, verify_answers


def model(text: str, opset: int = 17) -> onnx.ModelProto:
    return helper.make_model(parse_graph(text), opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_tolerances() -> None:
    assert tolerance("fp16", False) == 5e-3
    assert tolerance("fp16", True) == 2e-2


class TestReference:
    def test_outputs_keep_onnx_dtypes_and_ranks(self) -> None:
        part = model("g (float16[2] x, double s) => (float16[2] y, double z) { y = Neg (x) z = Neg (s) }")
        found = reference(part, [{"x": np.ones(2, np.float16), "s": np.array(2.0)}])
        assert found.outputs[0]["y"].dtype == np.float16
        assert found.outputs[0]["z"].shape == ()
        assert list(found.outputs[0]) == ["y", "z"]

    @pytest.mark.parametrize("kind", ["float", "float16", "double"])
    @pytest.mark.parametrize("opset", [11, 13, 18, 20])
    def test_peaks(self, kind: str, opset: int) -> None:
        part = model(f"g ({kind}[2] x) => ({kind}[2] z) <{kind}[2] y> {{ y = Mul (x, x) z = Sqrt (y) }}", opset)
        dtype = {"float": np.float32, "float16": np.float16, "double": np.float64}[kind]
        found = reference(part, [{"x": np.array([1, 2], dtype)}, {"x": np.array([-3, 1], dtype)}])
        assert found.peaks == {"y": 9, "z": 3}

    def test_nan_counts_as_infinite(self) -> None:
        found = reference(model("g (float[1] x) => (float[1] y) { y = Log (x) }"), [{"x": np.float32([-1])}])
        assert found.peaks == {"y": float("inf")}

    def test_softmax_is_seen(self) -> None:
        assert reference(model("g (float[2] x) => (float[2] y) { y = Softmax (x) }"), []).after_softmax == {"y"}
        assert not reference(model("g (float[2] x) => (float[2] y) { y = Relu (x) }"), []).after_softmax

    def test_softmax_is_on_the_way_of_an_output_or_not(self) -> None:
        part = model(
            "g (float[2] x) => (float[2] a, float[2] b, float[2] c) "
            "{ s = Softmax (x) t = Mul (s, x) a = Relu (t) b = Relu (x) c = LogSoftmax (x) }"
        )
        assert softmax_outputs(part) == {"a", "c"}

    def test_softmax_in_a_function_and_in_a_body(self) -> None:
        function = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18, "f" : 1]> g (float[2] x) => (float[2] y, float[2] z) '
            '{ y = f.Sharp (x) z = Relu (x) } <domain: "f", opset_import: ["" : 18]> Sharp (a) => (b) '
            "{ b = Softmax (a) }"
        )
        assert softmax_outputs(function) == {"y"}
        branch = (
            "g (bool c, float[2] x) => (float[2] y) { s = Softmax (x) y = If (c) "
            "<then_branch = t () => (float[2] p) { p = Relu (s) }, "
            "else_branch = e () => (float[2] q) { q = Neg (x) }> }"
        )
        assert softmax_outputs(model(branch)) == {"y"}

    def test_what_onnxruntime_cannot_run(self) -> None:
        with pytest.raises(ModelError, match="cannot run"):
            reference(model("g (float[2] x) => (float[2] y) { y = Nonsense (x) }"), [])


class TestCheck:
    expected = Reference(
        ({"y": np.float16([1, 2]), "i": np.int64([3])}, {"y": np.float16([4, np.inf]), "i": np.int64([4])}),
        {},
        frozenset(),
    )

    def verdict(self, **changes: np.ndarray) -> str:
        first = {"y": np.float32([1, 2.001]), "i": np.int64([3])} | changes
        return verify_answers(
            self.expected, [first, {"y": np.float32([4, np.inf]), "i": np.int64([4])}], precision="fp16"
        ).problem

    def test_right(self) -> None:
        assert self.verdict() == ""
        found = verify_answers(self.expected, self.expected.outputs, precision="fp16")
        assert (found.rel_rms, found.max_abs) == (0, 0)

    def test_off(self) -> None:
        assert self.verdict(y=np.float32([1, 2.1])) == "y is off by a relative RMS of 0.045 (limit 0.005)"

    def test_not_a_number(self) -> None:
        assert "NaN or infinity in 1 other places" in self.verdict(y=np.float32([1, np.nan]))

    def test_whole_numbers_must_be_equal(self) -> None:
        assert self.verdict(i=np.int64([4])) == "i differs (largest difference 1) though it must be equal"

    def test_forms(self) -> None:
        assert self.verdict(y=np.float32([[1, 2]])) == "y has shape [1, 2] instead of [2]"
        assert self.verdict(i=np.int32([3])) == "i has dtype int32 instead of int64"

    def test_missing(self) -> None:
        found = verify_answers(self.expected, [{"y": np.float32([1, 2])}] * 2, precision="fp16")
        assert "i is missing" in found.problem
        assert "i" in found.outputs
        assert "1 answers to 2 feeds" in verify_answers(self.expected, [{}], precision="fp16").problem
