"""A compiled model bound to a device: steps, routes, contexts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from ort_rknn.devices.fake import FakeDevice
from ort_rknn.devices.program import BoundCpuStep, BoundNpuStep, Program, check_terminated, open_cpu_session
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn.engine.engine import Engine
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.values import CpuStep, NpuStep
from ort_rknn_converters.onnx_file.blobs import BytesBlob
from ort_rknn_converters.partition.plan import Plan, Segment
from ort_rknn_converters.tensor_info import TensorInfo
from tests.helpers.engines import cpu_part, npu_part
from tests.helpers.segment_models import gate_model


def compiled() -> CompiledModel:
    """The gate model on the NPU, and a CPU step that doubles its float output."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["y", "y"], ["z"])],
        "cpu_0",
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 8])],
    )
    tail = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inputs = (TensorInfo("x", "tensor(float)", (1, 4)),)
    outputs = (TensorInfo("y", "tensor(float)", (1, 8)), TensorInfo("k", "tensor(int64)", (1,)))
    segment = Segment("npu_0", ("a", "b", "c"), inputs, outputs)
    return CompiledModel(
        stub=BytesBlob(b""),
        steps=(
            NpuStep(
                "npu_0",
                segment,
                inputs,
                outputs,
                {"rk3588": BytesBlob(b"code"), "rk3566": BytesBlob(b"other")},
                BytesBlob(gate_model().SerializeToString()),
            ),
            CpuStep("cpu_0", BytesBlob(tail.SerializeToString()), ("y",), ("z",)),
        ),
        plan=Plan("rk3588", "fp16", segments=(segment,)),
        targets=("rk3588", "rk3566"),
    )


def test_a_compiled_model_runs() -> None:
    program = Program(compiled(), SimulatorDevice(), outputs=["z", "k", "y"])
    assert [(step.kind, step.name) for step in program.steps] == [("npu", "npu_0"), ("cpu", "cpu_0")]
    engine = Engine(program)
    z, k, y = engine.run({"x": np.ones((1, 4), np.float32)})
    engine.close()
    np.testing.assert_array_equal(z, y + y)
    assert (k.dtype, k.shape) == (np.int64, (1,))


@pytest.mark.parametrize(("target", "code"), [(None, b"code"), ("rk3566", b"other")])
def test_the_segments_code_is_the_targets(target: str | None, code: bytes) -> None:
    program = Program(compiled(), FakeDevice(), target=target)
    part = program.steps[0]
    assert isinstance(part, BoundNpuStep)
    assert part.code.target == (target or "rk3588")
    assert part.code.rknn is not None
    assert part.code.rknn.read() == code
    assert [(spec.name, spec.dtype.name, spec.shape) for spec in part.code.outputs] == [
        ("y", "float32", (1, 8)),
        ("k", "int64", (1,)),
    ]
    assert program.plan.target == "rk3588"


def test_a_target_without_code_leaves_the_onnx() -> None:
    part = Program(compiled(), FakeDevice(), target="rk3576").steps[0]
    assert isinstance(part, BoundNpuStep)
    assert part.code.rknn is None
    assert part.code.onnx is not None


def test_cpu_sessions_are_made_by_the_sessions_own_maker() -> None:
    seen: list[Any] = []
    program = Program(compiled(), FakeDevice(), lambda blob: seen.append(blob) or SimpleNamespace(run=None))
    assert len(seen) == 1
    assert isinstance(program.steps[1], BoundCpuStep)


def test_npu_steps_need_a_device() -> None:
    with pytest.raises(ValueError, match="needs a device"):
        Program.from_steps([npu_part()], None, outputs=["y"])
    assert not Program.from_steps([], None, outputs=["x"]).has_npu


def three() -> Program:
    return Program.from_steps(
        [
            npu_part("npu_0", ["x"], ["a", "b"]),
            cpu_part("cpu_0", ["a"], ["c"], lambda values: {"c": values["a"]}),
            npu_part("npu_1", ["c", "b"], ["d", "e"]),
        ],
        FakeDevice(gated=False),
        outputs=["d", "e"],
    )


def test_a_route_says_what_is_wanted_and_what_may_be_forgotten() -> None:
    route = three().route(["e"])
    assert [(routed.step.name, routed.npu, routed.wanted, routed.names, routed.forget) for routed in route.steps] == [
        ("npu_0", 0, None, ("a", "b"), ("x",)),
        ("cpu_0", -1, None, ("c",), ("a",)),
        ("npu_1", 1, (False, True), ("e",), ("c", "b", "d")),
    ]
    assert route.lent == frozenset()
    assert [routed.last for routed in three().route().steps] == [False, False, True], "no NPU step comes after it"


def test_a_route_leaves_out_what_is_not_needed() -> None:
    program = three()
    assert [routed.step.name for routed in program.route(["c"]).steps] == ["npu_0", "cpu_0"]
    assert program.route(["c"]).steps[0].wanted == (True, False)
    assert program.route(["x"]).steps == ()
    assert program.route(["x"]).lent == {"x"}
    assert program.route(["b", "x"]).steps[0].forget == ("a",), "nobody wants it"


def test_routes_are_found_once() -> None:
    program = three()
    assert program.route(None) is program.route([]) is program.route(["d", "e"])
    assert program.route(["e", "d"]).outputs == ("e", "d")


def test_a_lane_has_a_context_for_each_segment() -> None:
    program = three()
    device = program.device
    assert isinstance(device, FakeDevice)
    lane = program.open_lane(2)
    other = program.open_lane(4, lane)
    assert [(context.code.name, context.mask) for context in device.opened] == [
        ("npu_0", 2),
        ("npu_1", 2),
        ("npu_0", 4),
        ("npu_1", 4),
    ]
    assert [context.share for context in other.contexts] == list(lane.contexts)  # type: ignore[attr-defined]
    assert [facts["mask"] for facts in lane.describe()] == [2, 2]
    assert lane.phases(0) is None
    lane.close()
    lane.close()
    assert len(device.alive) == 2


def test_a_lane_that_cannot_open_completely_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    program = three()
    device = program.device
    assert isinstance(device, FakeDevice)
    original = device.open

    def failing(code: Any, mask: int = 0, share: Any = None) -> Any:
        if code.name == "npu_1":
            raise MemoryError
        return original(code, mask, share)

    monkeypatch.setattr(device, "open", failing)
    with pytest.raises(MemoryError):
        program.open_lane(1)
    assert device.alive == []


def test_open_cpu_session() -> None:
    session = open_cpu_session(BytesBlob(gate_model().SerializeToString()))
    assert len(session.run(None, {"x": np.ones((1, 4), np.float32)})) == 2


def test_check_terminated() -> None:
    check_terminated(None)
    check_terminated(SimpleNamespace(terminate=False))
    check_terminated({"a key": "of another runtime's options"})
    with pytest.raises(Exception, match="terminate flag") as caught:
        check_terminated(SimpleNamespace(terminate=True))
    assert type(caught.value).__name__ == "Fail"
