"""Graph rules of the toolkit that fail on a model: it is compiled without them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from ort_rknn_converters.errors import FailureKind, ToolkitFailed
from ort_rknn_converters.toolkit import compile as toolkit_compile
from ort_rknn_converters.toolkit.compile import CompileRequest, compile_segment
from ort_rknn_converters.toolkit.retry_without_rule import without_broken_rule
from tests.helpers.toolkits import real as models

HINT = "W You can add disable_rules=['{}'] in rknn.config() to temporarily disable the error rule!\nE build: Traceback"


def failure(rule: str = "", kind: FailureKind = "refused") -> ToolkitFailed:
    return ToolkitFailed("IndexError", kind=kind, log=HINT.format(rule) if rule else "E build: Traceback")


def test_the_rule_that_is_named_goes() -> None:
    request = CompileRequest(b"", "rk3588", options={"single_core_mode": True})
    once = without_broken_rule(request, failure("fuse_this"))
    assert once is not None
    assert once.options == {"single_core_mode": True, "disable_rules": ["fuse_this"]}
    twice = without_broken_rule(once, failure("swap_that"))
    assert twice is not None
    assert twice.options["disable_rules"] == ["fuse_this", "swap_that"]


@pytest.mark.parametrize("error", [failure(), failure("fuse_this", "crashed"), failure("off_already")])
def test_nothing_to_blame(error: ToolkitFailed) -> None:
    request = CompileRequest(b"", "rk3588", options={"disable_rules": ["off_already"]})
    assert without_broken_rule(request, error) is None


@pytest.mark.toolkit
def test_compiles_where_a_rule_fails() -> None:
    model, feed = models.attention_from_the_right()
    result = compile_segment(CompileRequest(model, "rk3588", feeds=(feed,)))
    expected = onnxruntime.InferenceSession(model).run(None, feed)[0]
    np.testing.assert_allclose(result.outputs[0]["y"], expected, atol=5e-3)
    assert {row.target for row in result.layers if "Operator" not in row.op_type} == {"NPU"}


def test_a_few_rules_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []

    def fails(request: CompileRequest, **_: object) -> None:
        tried.append(list(request.options.get("disable_rules", ())))
        raise failure(f"rule_{len(tried)}")

    monkeypatch.setattr(toolkit_compile, "_compile_once", fails)
    with pytest.raises(ToolkitFailed):
        compile_segment(CompileRequest(b"", "rk3588"))
    assert tried == [[], ["rule_1"], ["rule_1", "rule_2"], ["rule_1", "rule_2", "rule_3"]]
