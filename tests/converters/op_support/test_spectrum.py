"""Logarithms of spectra take their transform to the CPU; other logarithms do not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.op_support.spectrum import REASON
from ort_rknn_converters.pipeline.convert import plan_only


def spectral(body: str, outputs: str = "float[1,32,9] y", inputs: str = "float[1,32,16] x") -> set[str]:
    """Ops that stay on the CPU for it."""
    graph = parse_graph(f"g ({inputs}) => ({outputs}) {{ {body} }}")
    random = np.random.default_rng(0)
    constants = {"c": random.normal(size=(16, 9)), "s": random.normal(size=(16, 9)), "w": random.normal(size=(9, 9))}
    constants |= {"two": np.array(2.0), "floor": np.array(1e-3), "third": np.array(0.3)}
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items() if name in used
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return {node.op_type for node in plan_only(model, min_gain=0).nodes if node.reason == REASON}


_POWER = "r = MatMul (x, c) i = MatMul (x, s) p = Pow (r, two) q = Mul (i, i) a = Add (p, q)"


@pytest.mark.parametrize("end", ["Log (b)", "Pow (b, third)"])
def test_the_power_of_a_transform(end: str) -> None:
    found = spectral(f"{_POWER} b = Add (a, floor) y = {end}")
    assert found == {"MatMul", "Pow", "Mul", "Add", end.partition(" ")[0]}


def test_a_bank_of_filters_between_goes_along() -> None:
    assert spectral(f"{_POWER} m = MatMul (a, w) b = Add (m, floor) y = Log (b)") >= {"MatMul", "Log"}


def test_the_power_of_the_samples_themselves() -> None:
    body = "q = Mul (x, x) m = ReduceMean <axes = [2]> (q) b = Add (m, floor) y = Log (b)"
    assert spectral(body, "float[1,32,1] y") == {"Mul", "ReduceMean", "Add", "Log"}


def test_a_network_before_it_is_no_front_end() -> None:
    body = "h = MatMul (x, c) g = Relu (h) r = MatMul (g, w) q = Mul (r, r) b = Add (q, floor) y = Log (b)"
    assert spectral(body) == set()


def test_a_logarithm_of_something_else() -> None:
    assert spectral("r = MatMul (x, c) p = Softplus (r) y = Log (p)") == set()
