"""The shaped models: valid, repeatable, computable, and in fp16's range."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from benchmarks.models import DIMS, MODELS

QUICK = ["mobilenetv2", "bert_mini", "lstm_crnn", "nms_detector", "constant_if"]
SLOW = sorted(set(MODELS) - set(QUICK))
FP16_MAX = 65504


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)])
def test_a_model_runs_and_stays_in_range(name: str) -> None:
    model = MODELS[name]()
    assert model.ir_version <= 10
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {}
    for one in session.get_inputs():
        shape = [dim if isinstance(dim, int) else DIMS[name][dim] for dim in one.shape]
        integers = rng.integers(0, 2, shape) if one.type == "tensor(int64)" else None
        feed[one.name] = rng.standard_normal(shape, dtype=np.float32) if integers is None else integers
    for answer in session.run(None, feed):
        assert np.isfinite(answer).all()
        assert np.abs(answer).max() < FP16_MAX / 4
        assert answer.std() > 0


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (MODELS["constant_if"](seed=seed).SerializeToString() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_batch_is_in_the_shapes() -> None:
    model = MODELS["mobilenetv2"](batch=4)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
