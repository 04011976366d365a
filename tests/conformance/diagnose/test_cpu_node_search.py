"""The search for the smallest set, on made-up models: which nodes are needed is known, and trials are counted."""

from __future__ import annotations

import pytest

from ort_rknn_conformance.case import CaseError
from ort_rknn_conformance.diagnose.cpu_node_search import TRIALS, find_fix
from ort_rknn_conformance.result import CaseResult

GROUPS = [frozenset({f"n{number}"}) for number in range(30)]


def _trial(*needed: str, tried: list[frozenset[str]]):  # type: ignore[no-untyped-def]
    def trial(nodes: frozenset[str]) -> CaseResult:
        assert nodes not in tried, "the same set twice"
        tried.append(nodes)
        return CaseResult("m", "right" if set(needed) <= nodes else "wrong")

    return trial


@pytest.mark.parametrize("needed", [("n0",), ("n1",), ("n0", "n3"), ("n2", "n5", "n11"), ("n29",)])
def test_the_smallest_set(needed: tuple[str, ...]) -> None:
    tried: list[frozenset[str]] = []
    found = find_fix(GROUPS, _trial(*needed, tried=tried))
    assert found.result.verdict == "right"
    assert found.nodes >= set(needed)
    assert found.trials == len(tried) <= TRIALS
    if found.smallest:
        assert found.nodes == set(needed)


def test_the_first_is_found_at_once() -> None:
    tried: list[frozenset[str]] = []
    assert find_fix(GROUPS, _trial("n0", tried=tried)).trials == 1


def test_no_cure_and_nothing_to_try() -> None:
    found = find_fix(GROUPS[:3], _trial("elsewhere", tried=[]))
    assert not found.nodes
    assert found.result.verdict == "wrong"
    with pytest.raises(CaseError, match="nothing is on the NPU"):
        find_fix([], _trial(tried=[]))
