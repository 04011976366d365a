"""The facts about nodes that everybody asks for."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from ort_rknn_converters.graph.nodes import attribute, bodies, is_used, operand, operands, take_over


def value(name: str, *dims: int | str | None) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(dims))


def test_operands_left_out_are_none_wherever_they_stand() -> None:
    x, z = value("x"), value("z")
    node = ir.node("Op", [x, None, z])
    assert operands(node, 5) == [x, None, z, None, None]
    assert [operand(node, position) for position in (0, 1, 2, 9)] == [x, None, z, None]


def test_attributes_are_python_values_and_references_have_none() -> None:
    node = ir.node("Op", [], {"mode": "linear", "axis": 2})
    node.attributes["size"] = ir.RefAttr("size", "outer", ir.AttributeType.INT)
    assert (attribute(node, "mode"), attribute(node, "axis", 0)) == ("linear", 2)
    assert (attribute(node, "size", 7), attribute(node, "none")) == (7, None)


def test_bodies_of_both_kinds() -> None:
    one, two, three = (ir.Graph([], [], nodes=[], name=name) for name in "abc")
    node = ir.node("Op", [], {"axis": 1})
    assert bodies(node) == []
    node.attributes["body"] = ir.AttrGraph("body", one)
    node.attributes["more"] = ir.AttrGraphs("more", [two, three])
    assert bodies(node) == [one, two, three]


def test_read_or_given_is_used() -> None:
    x = value("x")
    node = ir.node("Relu", [x])
    y = node.outputs[0]
    assert is_used(x)
    assert not is_used(y)
    ir.Graph([x], [y], nodes=[node])
    assert is_used(y)


@pytest.mark.parametrize(
    ("computed", "declared", "taken"),
    [
        ((1, 3), ("batch", 3), (1, 3)),
        ((1, 3), (1, 4), (1, 3)),  # what a file declares may be stale
        ((None, 3), ("batch", 3), ("batch", 3)),
        ((None, 3), ("batch", None), (None, 3)),
        ((None, 3), (1, 3), (1, 3)),
    ],
)
def test_a_successor_has_the_shape_that_says_more(
    computed: tuple[int | None, ...], declared: tuple[int | str | None, ...], taken: tuple[int | str | None, ...]
) -> None:
    was, new = value("y", *declared), value("temporary", *computed)
    was.doc_string = "what it is"
    take_over(was, new)
    assert (was.name, new.name, new.doc_string) == (None, "y", "what it is")
    assert new.shape is not None
    assert tuple(dim if isinstance(dim, int) else dim.value for dim in new.shape) == taken
