from __future__ import annotations

from collections.abc import Sequence

import pytest

from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.partition.clusters import cut, steps
from tests.helpers.graph_builders import chain, tangle


def _flow(seed: int) -> tuple[DataFlow, list[bool]]:
    flow = DataFlow.of(tangle(seed).graph)
    return flow, [node.op_type != "Sign" for node in flow.nodes]


def _contracted(flow: DataFlow, clusters: Sequence[Sequence[int]]) -> dict[int, set[int]]:
    unit = list(range(len(flow.nodes)))
    for cluster in clusters:
        for index in cluster:
            unit[index] = cluster[0]
    after: dict[int, set[int]] = {head: set() for head in unit}
    for index, takers in enumerate(flow.after):
        after[unit[index]] |= {unit[taker] for taker in takers} - {unit[index]}
    return after


def _cyclic(after: dict[int, set[int]]) -> bool:
    waiting = dict.fromkeys(after, 0)
    for takers in after.values():
        for taker in takers:
            waiting[taker] += 1
    ready = [head for head, count in waiting.items() if not count]
    done = 0
    while ready:
        done += 1
        for taker in after[ready.pop()]:
            waiting[taker] -= 1
            if not waiting[taker]:
                ready.append(taker)
    return done < len(after)


@pytest.mark.parametrize("seed", range(60))
def test_clusters_are_acyclic_and_no_two_that_touch_could_be_one(seed: int) -> None:
    flow, npu = _flow(seed)
    clusters = cut(flow, npu)

    assert sorted(index for cluster in clusters for index in cluster) == [i for i, on in enumerate(npu) if on]
    after = _contracted(flow, clusters)
    assert not _cyclic(after)
    heads = {cluster[0]: cluster for cluster in clusters}
    for first in heads:
        for second in after[first] & set(heads):
            rest = [cluster for cluster in clusters if cluster[0] not in (first, second)]
            merged = [*rest, sorted([*heads[first], *heads[second]])]
            assert _cyclic(_contracted(flow, merged)), f"{heads[first]} and {heads[second]} could be one"


@pytest.mark.parametrize("seed", range(20))
def test_steps_are_in_an_order_that_works(seed: int) -> None:
    flow, npu = _flow(seed)
    clusters = cut(flow, npu)
    done: set[int] = set()
    for which, members in steps(flow, clusters):
        assert which is None or members == clusters[which]
        assert all(giver in done or giver in members for index in members for giver in flow.before[index])
        done |= set(members)
    assert done == set(range(len(flow.nodes)))


def test_a_branch_ready_long_before_its_partner_joins_it() -> None:
    # b needs only w, but its taker waits for the CPU; a phase alone would leave b on its own.
    model = chain("a = Relu(x)", "s = Sign(a)", "b = Relu(w)", "y = Add(s, b)", inputs="x w")
    flow = DataFlow.of(model.graph)
    assert sorted(cut(flow, [True, False, True, True])) == [[0], [2, 3]]


def test_a_way_round_over_the_cpu_keeps_clusters_apart() -> None:
    model = chain("a = Relu(x)", "s = Sign(a)", "y = Add(a, s)")
    assert sorted(cut(DataFlow.of(model.graph), [True, False, True])) == [[0], [2]]


def test_readers_of_one_value_are_one_cluster() -> None:
    model = chain("a = Relu(x)", "b = Tanh(x)", "c = Sign(a)", "d = Sign(b)", "y = Add(c, d)")
    assert [0, 1] in cut(DataFlow.of(model.graph), [True, True, False, False, True])


def test_cpu_nodes_that_can_run_together_are_one_step() -> None:
    model = chain("a = Sign(x)", "b = Sign(a)", "c = Relu(x)", "d = Sign(c)", "y = Add(b, d)")
    flow = DataFlow.of(model.graph)
    order = steps(flow, [[2]])
    assert order == [(None, [0, 1]), (0, [2]), (None, [3, 4])]
