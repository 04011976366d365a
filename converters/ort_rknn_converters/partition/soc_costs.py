"""The figures of the cost rule for each SoC: data files with the source of every number, and a board's own profile.

A file of ``costs/`` holds ``name = [value, source]``; ``like`` names the SoC whose figures stand in for what it does
not have. A profile that ``ort-rknn board-test --cost`` measured on this machine wins over them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ort_rknn_converters.partition.cost_profile import CostProfile
from ort_rknn_converters.partition.installed_profile import installed
from ort_rknn_converters.util.frozen import frozen

__all__ = ["MEASURED", "SocCosts", "costs_of", "recorded_costs", "with_profile"]

MEASURED = "measured on this board"
_FOLDER = Path(__file__).with_name("costs")
_OTHERS = "others.toml"
_DTYPES = ("fp16", "int8")
# Operators of one kind must take this many times the fixed cost before a rate is read from them. A guess.
_ABOVE_FLOOR = 3
# Kinds of a profile that replace the rate of data through layers without matrix products.
_BY_BYTES = ("elementwise", "activation", "softmax", "norm", "reduce", "pool", "transpose", "resize", "pad", "gather")


@frozen
class SocCosts:
    """All figures of one SoC.

    Attributes:
        target: SoC.
        basis: In a word, where the NPU's figures are from: ``records``, ``a guess`` or :data:`MEASURED`.
        figures: Name -> value and source. Rates are in the unit of their name: ``gflops``, ``gb_s`` (10^9 bytes a
            second), ``mvalues_s``; times in ``us``.
        runs_on_cpu: Operators that the vendor's runtime runs on the board's CPU, inside a segment.
    """

    target: str
    basis: str
    figures: Mapping[str, tuple[float, str]]
    runs_on_cpu: frozenset[str]

    def __call__(self, name: str) -> float:
        """The value of a figure in base units: operations, bytes or values a second; seconds.

        Raises:
            KeyError: There is no such figure.
        """
        value = self.figures[name][0]
        unit = name.partition(".")[0]
        if unit.endswith("_us"):
            return value * 1e-6
        return value * (1e6 if unit.endswith("mvalues_s") else 1e9)

    def bytes_rate(self, kind: str, dtype: str) -> float:
        """Bytes a second through a layer of this kind: its own figure where there is one, else the common one."""
        own = f"{kind}_gb_s.{dtype}"
        return self(own if own in self.figures else "pointwise_gb_s")


@functools.cache
def recorded_costs(target: str) -> SocCosts:
    """Reads the figures that ship for a SoC."""
    if sys.version_info >= (3, 11):  # not at the start of a session that has all in the cache
        import tomllib
    else:
        import tomli as tomllib

    path = _FOLDER / f"{target}.toml"
    data: dict[str, Any] = tomllib.loads((path if path.is_file() else _FOLDER / _OTHERS).read_text(encoding="utf-8"))
    like = recorded_costs(data["like"]) if "like" in data else None
    figures = dict(like.figures) if like is not None else {}
    figures |= {name: (float(row[0]), str(row[1])) for name, row in data.items() if isinstance(row, list) and _is(row)}
    ops = data.get("runs_on_cpu")
    on_cpu = frozenset(ops) if ops is not None else like.runs_on_cpu if like is not None else frozenset[str]()
    return SocCosts(target, data["basis"], MappingProxyType(figures), on_cpu)


def costs_of(target: str) -> SocCosts:
    """Finds the figures that count on this machine: its own profile's where there is one."""
    known = recorded_costs(target)
    profile = installed(target)
    return known if profile is None else with_profile(known, profile)


def with_profile(known: SocCosts, profile: CostProfile) -> SocCosts:
    """Replaces figures by what a profile measured.

    A rate is the median over the sizes that take well over the fixed cost (else the largest size's); the fixed cost of
    a layer is what the smallest measured operator takes beyond a run without work, and never more.

    Args:
        known: What holds for all that the profile does not have.
        profile: Measured on one core of this SoC.
    """
    found: dict[str, float] = {}
    run_ms = min((row.ms for row in profile.operators if row.kind == "call"), default=None)
    if run_ms is not None:
        found["run_us"] = run_ms * 1e3
    base_ms = run_ms or 0.0
    for dtype in _DTYPES:
        rows = [row for row in profile.operators if row.dtype == dtype and row.ms > 0]
        for kind in ("conv", "matmul"):
            points = [(2e-9 * row.macs * row.operators, row.ms) for row in rows if row.kind == kind and row.macs]
            if (rate := _rate(points, base_ms)) is not None:
                found[f"{kind}_gflops.{dtype}"] = rate
        for kind in ("depthwise", *_BY_BYTES):
            points = [(1e-9 * row.bytes, row.ms) for row in rows if row.kind == kind]
            if (rate := _rate(points, base_ms)) is not None:
                found[f"{kind}_gb_s.{dtype}"] = rate
    for way in ("inputs_set", "outputs_get"):
        points = [(1e-9 * row.bytes, row.ms) for row in profile.transfers if row.way == way and row.ms > 0]
        if (rate := _rate(points, 0.0)) is not None:
            found[f"{way}_gb_s"] = rate
    figures = dict(known.figures) | {name: (value, MEASURED) for name, value in found.items()}
    measured_kinds = {row.kind for row in profile.operators}
    # What was measured is no longer a matter of where the runtime ran it.
    on_cpu = known.runs_on_cpu - ({"Gather"} if "gather" in measured_kinds else set())
    on_cpu -= {"Pad"} if "pad" in measured_kinds else set()
    return SocCosts(known.target, MEASURED if found else known.basis, MappingProxyType(figures), on_cpu)


def _rate(points: Iterable[tuple[float, float]], base_ms: float) -> float | None:
    """Work a second from pairs of work and milliseconds, of which ``base_ms`` are spent anyway."""
    from statistics import median

    known = sorted(points)
    if not known:
        return None
    well_above = [point for point in known if point[1] > _ABOVE_FLOOR * base_ms]
    return median(work / max(ms - base_ms, 1e-6) * 1e3 for work, ms in well_above or known[-1:])


def _is(row: list[Any]) -> bool:
    return len(row) == 2 and isinstance(row[0], (int, float)) and isinstance(row[1], str)
