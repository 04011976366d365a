"""Two runs side by side: better, worse, other, new and gone; and silence where nothing moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ort_rknn_conformance.report.baseline import difference
from ort_rknn_conformance.result import CaseResult
from tests.helpers.reports import many_results, model_result, output


def test_no_change() -> None:
    found = difference(many_results(), many_results(), "then")
    assert not found
    assert str(found) == "no change"


def test_times_and_float_noise_do_not_count() -> None:
    before = model_result(outputs=(output(off=1e-3),), seconds=1)
    after = model_result(outputs=(output(off=1.2e-3),), seconds=9)
    assert not difference([before], [after], "then")
    assert not difference([model_result(outputs=(output(off=1e-9),))], [model_result(outputs=(output(off=1e-7),))], "")


@pytest.mark.parametrize(
    ("before", "after", "side", "words"),
    [
        (model_result(), model_result(verdict="wrong", message="y: off"), "worse", "right → wrong: y: off"),
        (CaseResult("m.onnx", "crashed"), model_result(), "better", "crashed → right"),
        (CaseResult("m.onnx", "wrong"), CaseResult("m.onnx", "crashed"), "other", "wrong → crashed"),
        (model_result(), CaseResult("m.onnx", "skipped"), "worse", "right → skipped"),
        (model_result(), model_result(npu_nodes=1), "worse", "2 → 1 nodes on the NPU"),
        (model_result(npu_nodes=1), model_result(), "better", "1 → 2 nodes on the NPU"),
        (model_result(), model_result(outputs=(output(off=4e-3),)), "worse", "y: relative RMS 0.0017 → 0.0068"),
        (model_result(), model_result(outputs=(output(off=1e-4),)), "better", "y: relative RMS 0.0017 → 0.00017"),
        (model_result(), model_result(outputs=(replace(output(), rel_rms=float("nan")),)), "worse", "nan"),
    ],
)
def test_sides(before: CaseResult, after: CaseResult, side: str, words: str) -> None:
    if before.case != after.case:
        after = replace(after, case=before.case)
    before, after = replace(before, case="m.onnx"), replace(after, case="m.onnx")
    found = difference([before], [after], "then")
    (change,) = getattr(found, side)
    assert change.case == "m.onnx"
    assert words in change.what
    assert sum(map(len, (found.better, found.worse, found.other))) == 1


def test_new_and_gone() -> None:
    found = difference([CaseResult("a", "right")], [CaseResult("b", "right")], "then")
    assert (found.new, found.gone) == (("b",), ("a",))
    assert str(found) == "1 new, 1 gone"
