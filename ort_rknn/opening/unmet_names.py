"""Finds names in options that the model does not have: they would change nothing, and nobody would know.

Options of the configuration file are for all models of a user, so a name in it that one model lacks is no mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ort_rknn.errors import InvalidOption
from ort_rknn.options.config_file import read_config
from ort_rknn.options.table import OPTIONS
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.options.table import RknnOptions
    from ort_rknn_converters.onnx_file.signature import DeclaredValue
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["check_inputs", "check_nodes", "say_without_effect"]

_OF_CONVERSIONS = ("cpu_nodes", "cpu_ops", "dims", "values")
"""Options that say how a model is converted, and nothing to one that is converted already."""


def check_inputs(options: RknnOptions, inputs: Sequence[DeclaredValue]) -> None:
    """Refuse shapes and values of inputs, and sizes of dimensions, that the model does not have.

    Raises:
        InvalidOption: There is one.
    """
    for name in ("shapes", "values"):
        if not _in_the_file(name, getattr(options, name)):
            _refuse(name, "input", getattr(options, name), [value.name for value in inputs])
    if not _in_the_file("dims", options.dims):
        there = {dim for value in inputs for dim in value.dims or () if isinstance(dim, str)}
        _refuse("dims", "dimension", options.dims, there)


def check_nodes(options: RknnOptions, model: str | bytes, plan: Plan | None) -> None:
    """Refuse names of nodes that neither the model nor its plan has, and of ops that nobody knows; warn of others.

    Args:
        options: Of the session.
        model: Path or content.
        plan: Of the model; ``None`` where its shapes are open: a node that preparing makes may still come, so that a
            name nobody knows is only warned of.

    Raises:
        InvalidOption: There is such a name.
    """
    nodes = set() if _in_the_file("cpu_nodes", options.cpu_nodes) else set(options.cpu_nodes)
    ops = set() if _in_the_file("cpu_ops", options.cpu_ops) else set(options.cpu_ops)
    placed = plan.nodes if plan is not None else ()
    nodes -= {node.name for node in placed}
    ops -= {node.op_type for node in placed}
    if not nodes and not ops:
        return
    named = _nodes_of(model)
    names = {name for name, _ in named} | {node.name for node in placed}
    types = {op_type for _, op_type in named} | {node.op_type for node in placed}
    try:
        _refuse("cpu_nodes", "node", nodes, names)
    except InvalidOption as error:
        if plan is not None:
            raise
        logger().warning("%s, unless preparing the model makes one", error)
    if missing := sorted(ops - types):
        _refuse("cpu_ops", "op", missing, types | _known_ops(), where="neither the model nor ONNX")
        logger().warning("the option cpu_ops names %s, which the model does not have", ", ".join(missing))


def say_without_effect(options: RknnOptions) -> None:
    """Warn of options that say nothing to a model that was compiled before."""
    given = [
        name for name in _OF_CONVERSIONS if getattr(options, name) and not _in_the_file(name, getattr(options, name))
    ]
    if given:
        logger().warning(
            "the model was compiled before: the option%s %s changes nothing", "s" * (len(given) > 1), ", ".join(given)
        )


def _refuse(option: str, kind: str, names: Iterable[str], there: Iterable[str], where: str = "the model") -> None:
    known = sorted(set(there) - {""})
    for name in sorted(set(names) - set(known)):
        import difflib  # not at every start of a session

        close = difflib.get_close_matches(name, known, n=3)
        has = (
            f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known[:8]) or 'none that is named'}"
        )
        also = " Names are separated by commas." if kind in ("node", "op") and any(one in name for one in ";| ") else ""
        has = "" if kind == "op" and not close else f"; {has}"
        says = "has no" if where == "the model" else "knows an"
        raise InvalidOption(f"the option {option} names {name!r}, and {where} {says} {kind} of that name{has}{also}")


def _in_the_file(option: str, value: Any) -> bool:
    """Whether a value is what the configuration file says, and not the program."""
    said = read_config()[0].get(option)
    return not value or (said is not None and OPTIONS[option].parse(said) == value)


def _nodes_of(model: str | bytes) -> list[tuple[str, str]]:
    """Name and op type of every node, bodies of control flow included."""
    import onnx

    from ort_rknn_converters.onnx_file.tensor_types import bodies

    try:
        proto = (
            onnx.ModelProto.FromString(model)
            if isinstance(model, bytes)
            else onnx.load(model, load_external_data=False)
        )
    except Exception:  # onnxruntime says what is wrong with it
        return []
    found: list[tuple[str, str]] = []
    graphs = [proto.graph]
    while graphs:
        for node in graphs.pop().node:
            found.append((node.name, node.op_type))
            graphs += bodies(node)
    return found


def _known_ops() -> set[str]:
    import onnx

    return {schema.name for schema in onnx.defs.get_all_schemas()}
