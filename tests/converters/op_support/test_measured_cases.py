"""The tables against what rknn-toolkit2 2.5.0 was seen to do with every single-op case of the standard's backend tests.

``tests/data/toolkit_2_5_0_single_ops.csv`` holds the result of compiling each case for rk3588 and of comparing the
vendor's simulator with onnxruntime: ``good``, ``custom-op`` (no lowering), ``cpu-undocumented``, ``abort-build`` ...
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ort_rknn_converters.graph import onnx_graph
from ort_rknn_converters.graph.infer import infer
from ort_rknn_converters.op_support.decide import RULES, decide
from ort_rknn_converters.targets import find_target
from tests.helpers.backend_cases import BackendCase, backend_cases

TABLE = Path(__file__).parents[2] / "data" / "toolkit_2_5_0_single_ops.csv"

# Accepted all the same: what goes wrong depends on the values, or on the form of the whole model that is put right
# before it is compiled (rank-0 inputs become [1], the sizes of a Split's parts and the axes of a Pad are written out;
# onnxruntime itself cannot run the opset-6 Gemm).
EXPLAINED = {
    "constant_pad_axes",
    "constant_pad_negative_axes",
    "logsoftmax_large_number",
    "operator_addmm",
    "pow_bcast_scalar",
    "softmax_large_number",
    "split_1d_uneven_split_opset18",
    "split_2d_uneven_split_opset18",
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def known_failures() -> dict[str, list[tuple[str, str | None]]]:
    """Result seen -> (case, what the tables say)."""
    cases = {case.name.removeprefix("test_"): case for case in backend_cases()}
    found: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    with TABLE.open() as file:
        for row in csv.DictReader(file):
            case = cases.get(row["case"])
            if case is not None and len(case.model.graph.node) == 1:
                found[row["result"]].append((row["case"], _said(case)))
    return found


def test_what_crashed_or_failed_is_never_proposed(known_failures: dict[str, list[tuple[str, str | None]]]) -> None:
    proposed = {
        name
        for result, cases in known_failures.items()
        if result != "good"
        for name, said in cases
        if said is None and name not in EXPLAINED
    }
    assert not proposed


def test_most_of_what_was_good_is_proposed(
    known_failures: dict[str, list[tuple[str, str | None]]], capsys: pytest.CaptureFixture[str]
) -> None:
    good = known_failures["good"]
    taken = sum(said is None for _, said in good)
    with capsys.disabled():
        print(f"\n{'seen':<20}{'NPU':>6}{'CPU':>6}")
        for result, cases in sorted(known_failures.items()):
            npu = sum(said is None for _, said in cases)
            print(f"{result:<20}{npu:>6}{len(cases) - npu:>6}")
        refused = Counter(said for _, said in good if said is not None)
        for said, count in refused.most_common():
            print(f"  good, yet refused: {count:>3}  {said}")
    assert taken >= 0.8 * len(good)


def _said(case: BackendCase) -> str | None:
    """The verdict on the case's only node, its parameters (shapes, axes, limits ...) taken as constants."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    (node,) = model.graph.node
    rule = RULES.get(node.op_type)
    for position in rule.constants if rule else ():
        name = node.input[position] if position < len(node.input) else ""
        if name and isinstance(case.feed.get(name), np.ndarray):
            model.graph.initializer.append(numpy_helper.from_array(case.feed[name], name))
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    loaded = onnx_graph.load(model)
    infer(loaded)
    return decide(loaded.graph[0], find_target("rk3588"))
