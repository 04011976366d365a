from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx.parser import parse_graph

from ort_rknn_converters.errors import CalibrationError, ModelError
from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.quantize.activation_samples import Samples


def net(body: str, size: str = "1,4") -> ir.Model:
    parsed = parse_graph(f"g (float[{size}] x) => (float[{size}] y) {{ {body} }}")
    return onnx_graph.load(helper.make_model(parsed, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


DATA = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 1, 4)}
TWO = "a = Sigmoid (x) y = Tanh (a)"


def options(data: object = DATA) -> ConvertOptions:
    return ConvertOptions(precision="int8", calibration=data)


def test_a_part_gets_what_the_model_gives_it() -> None:
    found = Samples(net(TWO), options()).of(["a", "x"])
    np.testing.assert_allclose([one["a"] for one in found], 1 / (1 + np.exp(-DATA["x"])), rtol=1e-5)
    np.testing.assert_array_equal([one["x"] for one in found], DATA["x"])


def test_what_is_expected_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples(net(TWO), options())
    samples.expect(["a"])
    monkeypatch.setattr(samples, "_run", lambda names: pytest.fail("run again"))
    assert len(samples.of(["a"])) == 3


def test_values_that_are_not_finite_are_no_samples() -> None:
    samples = Samples(net("a = Log (x) y = Tanh (a)"), options())
    with pytest.raises(ModelError, match="no finite values"):
        samples.of(["a"])


def test_no_data_are_asked_for_by_name() -> None:
    with pytest.raises(CalibrationError, match="needs calibration data"):
        Samples(net(TWO), options(None))


def test_an_open_shape_is_no_shape_for_samples() -> None:
    with pytest.raises(CalibrationError, match="input x has no fixed shape"):
        Samples(net(TWO, "N,4"), options())


def test_the_models_own_proto_is_left_alone() -> None:
    model = net(TWO)
    before = onnx_graph.to_bytes(model)
    Samples(model, options()).of(["a"])
    assert onnx.ModelProto.FromString(before) == onnx.ModelProto.FromString(onnx_graph.to_bytes(model))
