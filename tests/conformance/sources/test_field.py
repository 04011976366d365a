"""The cases from the field: models that onnxruntime takes, with inputs that fit them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from ort_rknn_conformance.case import Case
from ort_rknn_conformance.sources import field

CASES = list(field.cases())


def test_names_are_unique_and_say_what_they_are() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 49
    assert {name.split("/")[1] for name in names} == {
        *("attention", "ids", "norms", "positions", "quantized", "quantizer", "recurrent", "spectra")
    }


def test_patterns_choose() -> None:
    assert [case.name for case in field.cases(["ids/equal"])] == ["field/ids/equal"]
    assert {case.name.split("/")[1] for case in field.cases(["field/norms/*"])} == {"norms"}
    assert list(field.cases(["nothing"])) == []


def test_a_model_is_the_same_each_time() -> None:
    [again] = field.cases(["spectra/mel"])
    [first] = [case for case in CASES if case.name == again.name]
    assert again.model == first.model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_onnxruntime_runs_it(case: Case) -> None:
    assert isinstance(case.model, bytes)
    onnx.checker.check_model(onnx.ModelProto.FromString(case.model))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(case.model, options)
    for feed in case.feeds:
        for value in session.run(None, dict(feed)):
            assert value.dtype.kind != "f" or np.isfinite(value).all()
