"""The search for the smallest set, on made-up models: which nodes are needed is known, and trials are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from ort_rknn_conformance.case import Case, CaseError, Settings
from ort_rknn_conformance.diagnose.cpu_node_search import TRIALS, find_fix, write_options
from ort_rknn_conformance.result import CaseResult
from ort_rknn_converters.options_file import read_options

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


def test_the_file(tmp_path: Path) -> None:
    case = Case("m.onnx", b"", ({},), shapes={'odd "name"': (1, 3)})
    fix = find_fix([frozenset({'a"b', "ü"})], _trial("ü", tried=[]))
    write_options(tmp_path / "f.toml", fix, case, Settings("rk3566"))
    options = read_options(tmp_path / "f.toml")
    assert options["cpu_nodes"] == {'a"b', "ü"}
    assert (options["target"], options["precision"]) == ("rk3566", "fp16")
    assert options["shapes"] == {'odd "name"': [1, 3]}
    with pytest.raises(CaseError, match="cannot be written"):
        write_options(tmp_path / "none" / "f.toml", fix, case, Settings())
