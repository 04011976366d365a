from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_rknn_converters.op_support.decide import decide
from ort_rknn_converters.op_support.fp16_range import REASON
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.partition import partition
from ort_rknn_converters.targets import find_target
from tests.helpers.graph_builders import chain

RK3588 = find_target("rk3588")


def causal() -> np.ndarray:
    return np.triu(np.full((4, 4), -np.inf, np.float32), 1)[None, None]


def masked(*lines: str, constant: float | np.ndarray, outputs: str = "y") -> ir.Model:
    model = chain("m = Add(x, w)", *lines, inputs="x w", outputs=outputs, shape=(1, 1, 4, 4))
    mask = model.graph.inputs[1]
    model.graph.inputs.pop()
    mask.const_value = ir.tensor(np.broadcast_to(np.float32(constant), (1, 1, 4, 4)).copy(), name="w")
    model.graph.register_initializer(mask)
    return model


@pytest.mark.parametrize("constant", [-np.inf, -3.4e38, np.nan, 70000.0])
def test_a_constant_that_fp16_cannot_hold_is_replaced_by_the_compiler(constant: float) -> None:
    assert decide(masked("y = Relu(m)", constant=constant).graph[0], RK3588) == REASON
    assert decide(masked(constant=constant, outputs="m").graph[0], RK3588) == REASON


def test_before_a_softmax_it_does_no_harm() -> None:
    model = masked("n = Reshape(m)", "y = Softmax(n)", constant=causal())
    assert decide(model.graph[0], RK3588) is None


def test_a_row_masked_as_a_whole_is_nan_and_must_stay_so() -> None:
    model = masked("y = Softmax(m)", constant=-np.inf)
    assert decide(model.graph[0], RK3588) == REASON


def test_the_softmax_must_come_along() -> None:
    model = masked("y = Softmax(m)", constant=causal())
    plan = partition(model, RK3588, ConvertOptions(min_gain=0))
    assert plan.npu_nodes == 2
    plan = partition(model, RK3588, ConvertOptions(min_gain=0, cpu_ops=frozenset({"Softmax"})))
    assert [node.reason for node in plan.nodes] == [REASON, "kept on the CPU by option"]


def test_seen_elsewhere_too_it_does() -> None:
    model = masked("y = Softmax(m)", "z = Relu(m)", constant=causal(), outputs="y z")
    assert decide(model.graph[0], RK3588) == REASON


def test_what_fits_is_fine() -> None:
    assert decide(masked("y = Relu(m)", constant=-65504.0).graph[0], RK3588) is None


def test_a_mask_may_go_to_the_softmax_of_any_number_of_layers() -> None:
    layers = [line for number in range(60) for line in (f"a{number} = Add(x, m)", f"y{number} = Softmax(a{number})")]
    model = masked(*layers, constant=causal(), outputs=" ".join(f"y{number}" for number in range(60)))
    assert decide(model.graph[0], RK3588) is None
