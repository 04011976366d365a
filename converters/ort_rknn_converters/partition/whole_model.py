"""Error of a whole compiled model, as values that stand in its plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ort_rknn_converters.util.foreign_text import shown
from ort_rknn_converters.util.frozen import frozen

__all__ = ["OutputError", "WholeModel"]


@frozen
class OutputError:
    """Distance of one output of the whole compiled model from ONNX Runtime's.

    Attributes:
        name: The output.
        rel_rms: Relative RMS error on random inputs; ``None`` for others than floats, and where it has no number.
        max_abs: Largest absolute difference; ``None`` where it has no number.
        problem: What is wrong in words, e.g. ``off by 12 %``; empty within the tolerance.
    """

    name: str
    rel_rms: float | None
    max_abs: float | None
    problem: str = ""


@frozen
class WholeModel:
    """Error of the whole compiled model: rounded as the NPU rounds, steps on the CPU exact, against ONNX Runtime.

    Attributes:
        outputs: One entry for each output that is a tensor of numbers.
        others: Sentences on inputs of other sizes, where only those go wrong, e.g. ``inputs 100 times smaller: y off
            by 12 %``.
    """

    outputs: tuple[OutputError, ...]
    others: tuple[str, ...] = ()

    @property
    def rel_rms(self) -> float | None:
        """The worst relative RMS error; ``None`` without floating outputs."""
        return max((one.rel_rms for one in self.outputs if one.rel_rms is not None), default=None)

    @property
    def problem(self) -> str:
        """All that is beyond the tolerance on ordinary inputs, in words; empty when nothing is."""
        return "; ".join(f"{shown(one.name)} {one.problem}" for one in self.outputs if one.problem)

    @property
    def warning(self) -> str:
        """Warning to whoever runs the model; empty when there is none."""
        return "; ".join(filter(None, (self.problem, *self.others)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WholeModel:
        """The inverse of ``dataclasses.asdict``."""
        return cls(tuple(OutputError(**row) for row in data["outputs"]), tuple(data["others"]))
