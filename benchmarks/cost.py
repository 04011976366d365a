"""Holds the cost rule against all public times of real boards.

python -m benchmarks.cost          prints the table and the shares: wanted are 2/3 within a factor of 1.5, all in 3
python -m benchmarks.cost --fit    finds the fitted figures of each SoC anew, and how well they foretell a model they
                                   were not fitted to (each model left out once)
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from benchmarks.board_records import LAYER_TABLE_MS, MODELS, NOT_COMPARED, RECORDS, Record
from benchmarks.model_parts import weightless
from ort_rknn_converters.partition.cost_model import run_seconds
from ort_rknn_converters.partition.node_work import NodeWork, node_works
from ort_rknn_converters.partition.soc_costs import SocCosts, recorded_costs

CLOSE, FAR = 1.5, 3.0
_FITTED = ("conv_gflops.int8", "layer_gb_s", "pointwise_gb_s", "layer_us")
_FITTED_SOCS = ("rk3588", "rk3576", "rk3566", "rk3562")
_ROUNDS = 500


@dataclass(frozen=True)
class Row:
    """A record beside the rule's time."""

    record: Record
    rule_ms: float

    @property
    def factor(self) -> float:
        """How many times more the rule says than was measured."""
        return self.rule_ms / self.record.ms

    def within(self, limit: float) -> bool:
        """Whether rule and record differ by at most a factor."""
        return 1 / limit <= self.factor <= limit


@functools.cache
def works(name: str) -> tuple[NodeWork, ...]:
    """The work of a model's nodes; its weights are never made."""
    with weightless():
        model = onnx.shape_inference.infer_shapes(MODELS[name]())
    return tuple(node_works(ir.from_proto(model).graph))


def compare(records: Sequence[Record] = RECORDS) -> list[Row]:
    """Every record with the rule's time for the same work, by the figures that ship."""
    return [Row(record, rule_ms(record, recorded_costs(record.target))) for record in records]


def rule_ms(record: Record, costs: SocCosts) -> float:
    """The rule's time for the work of a record."""
    ms = 1e3 * run_seconds(works(record.model), costs, record.dtype)
    return ms - costs.figures["run_us"][0] / 1e3 + LAYER_TABLE_MS if record.layer else ms


def share(rows: Sequence[Row], limit: float) -> float:
    """Share of the rows within a factor."""
    return sum(row.within(limit) for row in rows) / len(rows)


def fit(target: str, records: Sequence[Record]) -> SocCosts:
    """The fitted figures of a SoC: least squares of the logarithms, by random steps that shrink; repeatable."""
    rng = np.random.default_rng(0)
    costs = recorded_costs(target)

    def with_figures(values: np.ndarray) -> SocCosts:
        new = {name: (float(value), "fitted") for name, value in zip(_FITTED, values, strict=True)}
        return replace(costs, figures={**costs.figures, **new})

    def error(values: np.ndarray) -> float:
        known = with_figures(values)
        return sum(math.log(rule_ms(record, known) / record.ms) ** 2 for record in records)

    best = np.array([600.0, 8.0, 5.0, 10.0])
    least, step = error(best), 0.4
    for _ in range(_ROUNDS):
        tried = best * np.exp(rng.normal(0, step, len(best)))
        if (found := error(tried)) < least:
            best, least = tried, found
        else:
            step = max(step * 0.997, 0.01)
    return with_figures(best)


def _print_table(rows: Sequence[Row], missing: Mapping[str, str]) -> None:
    print(f"{'record':>6}  {'what':<18} {'SoC':<7} {'type':<5} {'measured':>9} {'rule':>9} {'factor':>6}")
    for row in rows:
        one = row.record
        marks = ("fitted; " if one.fitted else "") + one.note
        print(
            f"{one.row:>6}  {one.what:<18} {one.target:<7} {one.dtype:<5} {one.ms:>6.4g} ms {row.rule_ms:>6.3g} ms "
            f"{row.factor:>6.2f}  {marks.rstrip('; ')}"
        )
    for title, chosen in (
        ("all", rows),
        ("fitted", [row for row in rows if row.record.fitted]),
        ("not fitted", [row for row in rows if not row.record.fitted]),
    ):
        print(
            f"{title}: {len(chosen)} times, {share(chosen, CLOSE):.0%} within a factor of {CLOSE:g}, "
            f"{share(chosen, FAR):.0%} within {FAR:g}"
        )
    print("not compared:")
    for what, why in missing.items():
        print(f"  {what}: {why}")


def _print_fit(targets: Sequence[str]) -> None:
    for target in targets:
        chosen = [one for one in RECORDS if one.fitted and one.row <= 13 and one.target == target]
        found = fit(target, chosen)
        said = ", ".join(f"{name} {found.figures[name][0]:.2g}" for name in _FITTED)
        left_out = [
            rule_ms(one, fit(target, [other for other in chosen if other is not one])) / one.ms for one in chosen
        ]
        print(f"{target}: {said}; a model left out: factors {min(left_out):.2f} to {max(left_out):.2f}")


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--fit", nargs="*", choices=_FITTED_SOCS, help="fit these SoCs anew, minutes each; default: all"
    )
    chosen = parser.parse_args().fit
    if chosen is not None:
        _print_fit(chosen or _FITTED_SOCS)
    else:
        _print_table(compare(), NOT_COMPARED)


if __name__ == "__main__":
    main()
