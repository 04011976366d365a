"""Version stamps go down as far as a model's meaning stays, and no further."""

from __future__ import annotations

import pytest
from onnx import TensorProto, defs, helper

from ort_rknn_conformance.sources.opset_stamps import IR_VERSION, OPSET, RELEASED, restamp


def _model(*ops: str, opset: int, body: str | None = None) -> helper.ModelProto:
    nodes = [helper.make_node(op, ["x"], [f"y{number}"]) for number, op in enumerate(ops)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    if body is not None:
        graph = helper.make_graph([helper.make_node(body, ["x"], ["z"])], "body", [], [])
        nodes.append(helper.make_node("If", ["c"], ["z"], then_branch=graph, else_branch=graph))
    return helper.make_model(helper.make_graph(nodes, "g", [x], []), opset_imports=[helper.make_opsetid("", opset)])


NEWEST = defs.onnx_opset_version()


def test_old_ops_lose_a_new_stamp() -> None:
    model = _model("Relu", "Abs", opset=NEWEST)
    restamp(model)
    assert model.opset_import[0].version == OPSET
    assert model.ir_version <= IR_VERSION


def test_an_old_stamp_stays() -> None:
    model = _model("Relu", opset=13)
    restamp(model)
    assert model.opset_import[0].version == 13


@pytest.mark.parametrize("inside", [False, True], ids=["in the graph", "in a body"])
def test_a_new_op_keeps_what_it_needs(inside: bool) -> None:
    since = defs.get_schema("RMSNormalization", NEWEST, "").since_version
    assert since > OPSET
    model = (
        _model("Relu", opset=NEWEST, body="RMSNormalization") if inside else _model("RMSNormalization", opset=NEWEST)
    )
    restamp(model)
    assert since <= model.opset_import[0].version < NEWEST or since == NEWEST


def test_an_unknown_op_stops_it() -> None:
    model = _model("NoSuchOp", opset=NEWEST)
    restamp(model)
    assert model.opset_import[0].version == NEWEST


DEVELOPED = pytest.mark.skipif(NEWEST < 28, reason="needs the onnx package of opset 28")


@DEVELOPED
@pytest.mark.parametrize("op", ["Mod", "Einsum", "ReduceLogSum", "DepthToSpace", "Cast"])
def test_more_types_under_development_are_no_other_meaning(op: str) -> None:
    assert defs.get_schema(op, NEWEST, "").since_version > RELEASED
    model = _model(op, opset=NEWEST)
    restamp(model)
    assert model.opset_import[0].version <= RELEASED


@DEVELOPED
def test_a_new_attribute_is_another_meaning_where_it_is_used() -> None:
    plain = _model("SpaceToDepth", opset=NEWEST)
    plain.graph.node[0].attribute.append(helper.make_attribute("blocksize", 2))
    restamp(plain)
    assert plain.opset_import[0].version <= RELEASED
    used = _model("SpaceToDepth", opset=NEWEST)
    used.graph.node[0].attribute.append(helper.make_attribute("mode", "CRD"))
    restamp(used)
    assert used.opset_import[0].version > RELEASED


@DEVELOPED
def test_a_new_op_under_development_keeps_its_stamp() -> None:
    model = _model("SwiGLU", opset=NEWEST)
    restamp(model)
    assert model.opset_import[0].version > RELEASED
