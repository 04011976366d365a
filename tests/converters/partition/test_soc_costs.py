"""Figures of the cost rule: every number has its source, and a profile of this board wins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

from ort_rknn_converters.cache.key import key_of
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.cost_model import estimate
from ort_rknn_converters.partition.cost_profile import CostProfile, OperatorCost, TransferCost
from ort_rknn_converters.partition.installed_profile import profile_digest, profile_path
from ort_rknn_converters.partition.soc_costs import MEASURED, costs_of, recorded_costs, with_profile
from ort_rknn_converters.targets import TARGETS, find_target
from tests.helpers.op_rule import floats, node

NAMES = sorted(recorded_costs("rk3588").figures)
SOURCES = ("record", "fitted", "a guess", "reports", "HPL", "the RK3588's", "17 to 22")


@pytest.mark.parametrize("soc", TARGETS)
def test_every_number_has_its_source(soc: str) -> None:
    costs = recorded_costs(soc)
    assert sorted(costs.figures) == NAMES
    for name, (value, source) in costs.figures.items():
        assert value > 0
        assert source.startswith(SOURCES), f"{soc} {name}: {source}"
    assert costs.basis in ("records", "a guess")
    assert {"Gather", "Pad", "ReduceMax"} <= costs.runs_on_cpu


def test_units() -> None:
    costs = recorded_costs("rk3588")
    assert costs("conv_gflops.int8") == 1600e9
    assert costs("layer_us") == pytest.approx(15e-6)
    assert costs("gather_mvalues_s") == 15e6
    assert costs("inputs_set_gb_s") == 0.33e9


def _profile(**changed: object) -> CostProfile:
    def one(kind: str, dtype: str, macs: int, size: int, ms: float) -> OperatorCost:
        return OperatorCost(kind, dtype, "any", macs, size, 1, ms, 20)

    operators = (
        one("call", "fp16", 0, 512, 0.05),
        one("conv", "fp16", 1_000_000_000, 5_000_000, 2.05),  # 1000 GFLOP/s behind the call
        one("conv", "fp16", 1_000_000, 5_000, 0.06),  # nothing but fixed cost
        one("matmul", "fp16", 100_000_000, 1_000_000, 1.05),
        one("softmax", "fp16", 0, 1_000_000, 1.05),
        one("gather", "fp16", 0, 1_000_000, 0.55),
    )
    transfers = (TransferCost("inputs_set", "float32", 1_000_000, 0.5, 20),)
    made = CostProfile("rk3588", "hardware", "a board", "2.3.2", "0.9.8", "2026-11-30", operators, transfers)
    return replace(made, **changed)  # type: ignore[arg-type]


def test_a_profile_wins_over_the_records() -> None:
    known = recorded_costs("rk3588")
    mine = with_profile(known, _profile())
    assert mine.basis == MEASURED
    assert mine("run_us") == pytest.approx(50e-6)
    assert mine("conv_gflops.fp16") == pytest.approx(1000e9)
    assert mine("matmul_gflops.fp16") == pytest.approx(200e9)
    assert mine.bytes_rate("softmax", "fp16") == pytest.approx(1e9)
    assert mine("inputs_set_gb_s") == pytest.approx(2e9)
    assert mine.figures["conv_gflops.fp16"][1] == MEASURED
    # What was not measured stays.
    assert mine("conv_gflops.int8") == known("conv_gflops.int8")
    assert mine.bytes_rate("softmax", "int8") == known("pointwise_gb_s")
    assert "Gather" not in mine.runs_on_cpu
    assert "Pad" in mine.runs_on_cpu


def test_an_empty_profile_changes_nothing() -> None:
    known = recorded_costs("rk3588")
    assert with_profile(known, _profile(operators=(), transfers=())) == known


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_the_profile_of_this_machine_is_found_and_is_part_of_the_cache_key(cache: Path) -> None:
    options, model = ConvertOptions(), b"a model"
    assert profile_digest("rk3588") == ""
    before, off = key_of(model, options), key_of(model, ConvertOptions(min_gain=0))
    _profile().save(profile_path("rk3588"))
    assert profile_path("rk3588").is_relative_to(cache)
    assert costs_of("rk3588").basis == MEASURED
    assert costs_of("rk3566").basis == "records"
    assert key_of(model, options) != before
    assert key_of(model, ConvertOptions(min_gain=0)) == off
    product: ir.Node = node("MatMul", [("float", [1, 1024, 1024]), floats(1024, 1024)], [("float", [1, 1024, 1024])])
    target = find_target("rk3588")
    mine = estimate([product], product.inputs[:1], product.outputs, target)  # type: ignore[arg-type]
    told = estimate([product], product.inputs[:1], product.outputs, target, costs=recorded_costs("rk3588"))  # type: ignore[arg-type]
    assert told.work_s == pytest.approx(2.0 * 1024**3 / 80e9)
    assert mine.work_s == pytest.approx(2.0 * 1024**3 / 200e9)


def test_what_no_board_measured_is_not_believed(cache: Path) -> None:
    _profile(where="emulated").save(profile_path("rk3588"))
    assert costs_of("rk3588") == recorded_costs("rk3588")


def test_a_damaged_profile_is_not_used(cache: Path) -> None:
    path = profile_path("rk3588")
    path.parent.mkdir()
    path.write_text("{", encoding="utf-8")
    assert costs_of("rk3588").basis == "records"
