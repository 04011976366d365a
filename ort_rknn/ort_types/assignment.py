"""Records which node went to which provider, in the form of onnxruntime's graph assignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_rknn.ort_conventions import CPU_PROVIDER, RKNN_PROVIDER
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn_converters.partition.plan import NodePlacement, Plan

__all__ = ["AssignedNode", "AssignedSubgraph", "assignment"]


@frozen
class AssignedNode:
    """One node, as onnxruntime's ``OrtEpAssignedNode`` shows it (which has no constructor)."""

    name: str
    domain: str
    op_type: str


@frozen
class AssignedSubgraph:
    """Nodes that one provider runs as a whole, as onnxruntime's ``OrtEpAssignedSubgraph`` shows them."""

    ep_name: str
    nodes: tuple[AssignedNode, ...]

    def get_nodes(self) -> list[AssignedNode]:
        """Nodes of the subgraph."""
        return list(self.nodes)


def assignment(plan: Plan) -> list[AssignedSubgraph]:
    """One entry per NPU segment, one per node on the CPU, in the plan's order."""
    groups: dict[str, list[AssignedNode]] = {}
    providers: dict[str, str] = {}
    for placement in plan.nodes:
        group = placement.segment or f"node {placement.name}"
        providers[group] = RKNN_PROVIDER if placement.segment else CPU_PROVIDER
        groups.setdefault(group, []).append(_node(placement))
    return [AssignedSubgraph(providers[group], tuple(nodes)) for group, nodes in groups.items()]


def _node(placement: NodePlacement) -> AssignedNode:
    domain, separator, op_type = placement.op_type.rpartition(".")
    return AssignedNode(placement.name, domain if separator else "", op_type)
