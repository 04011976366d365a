"""The second form of a segment: tried where the first one fails, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ort_rknn_converters.compile.other_forms import folded_by_onnxruntime
from ort_rknn_converters.errors import ToolkitFailed
from ort_rknn_converters.pipeline.convert import convert
from tests.helpers.conversions import IMAGE, assert_same, image, model
from tests.helpers.quantized import qdq
from tests.helpers.toolkits.scripted import ScriptedToolkit

NORMALIZED = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = BatchNormalization (a, scale, bias, mean, var)
    y = Relu (b)
"""


def normalized() -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu: onnxruntime's optimizer makes the first two one Conv."""
    proto = model(NORMALIZED)
    for name, low in (("scale", 0.5), ("bias", -1.0), ("mean", -1.0), ("var", 0.5)):
        proto.graph.initializer.append(numpy_helper.from_array(np.linspace(low, 1.5, 4, dtype=np.float32), name))
    return proto


class TestFolded:
    def test_fewer_nodes_same_edges(self) -> None:
        folded = folded_by_onnxruntime(normalized())
        assert folded is not None
        assert [node.op_type for node in folded.graph.node] == ["Conv", "Relu"]
        assert [value.name for value in (*folded.graph.input, *folded.graph.output)] == ["x", "y"]

    def test_nothing_to_fold(self) -> None:
        assert folded_by_onnxruntime(model("y = Relu (x)")) is None

    def test_what_onnxruntime_refuses(self) -> None:
        assert folded_by_onnxruntime(model("y = Unheard (x)")) is None


@pytest.mark.parametrize("fault", ["crashes", "wrong"])
def test_a_segment_that_fails_is_tried_in_the_other_form(tmp_path: Path, fault: str) -> None:
    fake = ScriptedToolkit(**{fault: frozenset({"BatchNormalization"})})  # type: ignore[arg-type]
    compiled = convert(normalized(), compile=fake, known_failures=tmp_path, min_gain=0)
    assert len(fake.requests) == 2
    assert compiled.plan.npu_nodes == 3
    (note,) = (note for note in compiled.plan.notes if "optimizer" in note)
    assert note.startswith("the part that makes y is compiled as onnxruntime's optimizer folds it: else ")
    assert_same(compiled, normalized(), image())


def test_what_fails_both_ways_is_searched_as_ever(tmp_path: Path) -> None:
    fake = ScriptedToolkit(crashes=frozenset({"Relu"}))
    compiled = convert(normalized(), compile=fake, known_failures=tmp_path, min_gain=0)
    assert {node.op_type for node in compiled.plan.nodes if node.place == "CPU"} == {"Relu"}
    assert not any("optimizer" in note for note in compiled.plan.notes)


@pytest.mark.parametrize("kind", ["timeout", "memory"])
def test_dear_failures_are_not_tried_again(tmp_path: Path, kind: Any) -> None:
    fake = ScriptedToolkit(fails_with=ToolkitFailed("no", kind=kind))
    convert(normalized(), compile=fake, known_failures=tmp_path, min_gain=0)
    assert len(fake.requests) == 1


def test_success_costs_nothing(tmp_path: Path) -> None:
    fake = ScriptedToolkit()
    convert(normalized(), compile=fake, known_failures=tmp_path, min_gain=0)
    assert len(fake.requests) == 1


def test_a_segment_saved_by_it_is_not_compiled_again_when_another_fails(tmp_path: Path) -> None:
    proto = model(NORMALIZED.replace("y = Relu (b)", "c = Asinh (b) d = Tanh (c) y = Sin (d)"), outputs=f"{IMAGE} y")
    proto.graph.initializer.extend(normalized().graph.initializer)
    fake = ScriptedToolkit(crashes=frozenset({"BatchNormalization", "Sin"}))
    compiled = convert(proto, compile=fake, known_failures=tmp_path, min_gain=0)
    normalizing = [request for request in fake.requests if b"Conv" in request.model]
    assert len(normalizing) == 2
    assert {node.op_type for node in compiled.plan.nodes if node.place == "CPU"} >= {"Asinh"}


@pytest.mark.parametrize("fault", ["crashes", "refuses"])
def test_a_quantized_part_that_fails_computes_in_floats(tmp_path: Path, fault: str) -> None:
    faults: Any = {"crashes": frozenset({"QuantizeLinear"}), "refuses": {"QuantizeLinear": "IndexError"}}[fault]
    fake = ScriptedToolkit(**{fault: faults})
    compiled = convert(qdq(), compile=fake, known_failures=tmp_path, min_gain=0)
    assert len(fake.requests) <= 3
    assert len(compiled.plan.segments) == 1
    assert any("computes in fp16, not in the model's int8: else" in note for note in compiled.plan.notes)
    last = onnx.ModelProto.FromString(fake.requests[-1].model)
    assert {node.op_type for node in last.graph.node}.isdisjoint({"QuantizeLinear", "DequantizeLinear"})
