"""Measured costs of operators and transfers on one board: written by ``ort-rknn board-test --cost``.

A profile is a JSON file of the layout below; :mod:`ort_rknn_converters.partition.installed_profile` finds the one that
was made on this very machine, which the cost rule prefers to what others have measured. Times are medians in
milliseconds, sizes are bytes as the NPU keeps them, work is multiplications with their additions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import make_private, read_regular
from ort_rknn_converters.util.plain_data import check_fields, parse_json

__all__ = ["FORMAT", "KINDS", "WAYS", "CostProfile", "OperatorCost", "TransferCost"]

FORMAT = 1
"""Version of the file's layout; it grows when a field changes its meaning."""

_MOST = 1 << 26  # bytes of the file; a guess: a board's report has 1 MB

KINDS = (
    *("call", "conv", "depthwise", "matmul", "elementwise", "activation", "softmax", "norm"),
    *("reduce", "pool", "transpose", "resize", "pad", "gather"),
)
"""Kinds of operators. ``call``: a model with next to nothing in it, the fixed cost of an inference."""

WAYS = ("inputs_set", "outputs_get", "zero_copy_in", "zero_copy_out")
"""Ways of the data: ``rknn_inputs_set`` and ``rknn_outputs_get`` with conversion, or a copy by the CPU into or out of
memory that is shared with the NPU."""


@frozen
class OperatorCost:
    """One operator at one size.

    Attributes:
        kind: One of :data:`KINDS`.
        dtype: ``fp16`` or ``int8``.
        shape: What it was, for people: ``64 to 128 channels, 3x3, 80x80``.
        macs: Multiplications with their additions; 0 for what only moves or compares.
        bytes: Of its inputs, constants and outputs on the NPU.
        operators: How many of the kind the measured model holds, one after the other.
        ms: Median of ``rknn_run`` over the runs, of the whole model.
        runs: Inferences.
    """

    kind: str
    dtype: str
    shape: str
    macs: int
    bytes: int
    operators: int
    ms: float
    runs: int


@frozen
class TransferCost:
    """Data on their way to the NPU or back.

    Attributes:
        way: One of :data:`WAYS`.
        dtype: Of the array in the program, ``float32`` or ``uint8``.
        bytes: Of the array in the program.
        ms: Median.
        runs: Inferences.
    """

    way: str
    dtype: str
    bytes: int
    ms: float
    runs: int


@frozen
class CostProfile:
    """All that was measured on one board.

    Attributes:
        target: SoC.
        where: ``hardware``, or what stood in for it: then the times mean nothing.
        board: As the device tree calls it, or ``None``.
        runtime: Version of librknnrt.
        driver: Version of the kernel driver.
        written: When, ISO 8601.
        operators: Costs of operators, measured on one core.
        transfers: Costs of transfers.
    """

    target: str
    where: str
    board: str | None
    runtime: str
    driver: str
    written: str
    operators: tuple[OperatorCost, ...]
    transfers: tuple[TransferCost, ...]

    @property
    def measured(self) -> bool:
        """Whether its times are those of a board."""
        return self.where == "hardware"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CostProfile:
        """The opposite of :meth:`to_dict`.

        Raises:
            ValueError: It is no profile, or of another layout.
        """
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"its layout is {data['format']}, this release reads {FORMAT}: measure again")
            found = cls(
                target=data["target"],
                where=data["where"],
                board=data["board"],
                runtime=data["runtime"],
                driver=data["driver"],
                written=data["written"],
                operators=tuple(OperatorCost(**row) for row in data["operators"]),
                transfers=tuple(TransferCost(**row) for row in data["transfers"]),
            )
            check_fields(found)
            return found
        except (KeyError, TypeError) as error:
            raise ValueError(f"no cost profile: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it, whole or not at all."""
        target = Path(path)
        make_private(target.parent)
        fresh = target.with_name(f"{target.name}.{os.getpid()}")
        fresh.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")
        fresh.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CostProfile:
        """Read one, or the one inside a report of ``ort-rknn board-test``.

        Raises:
            OSError: The file cannot be read.
            ValueError: There is no profile in it.
        """
        data = parse_json(read_regular(path, _MOST))
        if not isinstance(data, dict):
            raise ValueError("no cost profile: the file holds no object")
        return cls.from_dict(data["cost"] if isinstance(data.get("cost"), dict) else data)
