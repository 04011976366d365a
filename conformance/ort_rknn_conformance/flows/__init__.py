"""A flow: one way a model can be run by us, with the cases it skips and the failures it is known to have.

One small file per flow. An xfail is strict: a case that passes although the flow calls it a failure is reported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal

from ort_rknn_converters.util.frozen import frozen

__all__ = ["FLOWS", "MIXED", "PRECISIONS", "Flow", "find_flow"]

Mark = Literal["skip", "xfail"]

PRECISIONS = ("fp16", "int8", "w4a16", "mixed")
"""What a run can be asked for; ``mixed`` is int8 in which layers stay fp16 until a promise holds."""

MIXED: Mapping[str, Any] = {"precision": "int8", "max_loss": 0.05, "metric": "rel-rms"}
"""The promise of ``mixed``: 5 % relative RMS, a tenth of what int8 is allowed (a guess)."""


@frozen
class Flow:
    """One device as the suite sees it.

    Attributes:
        name: The name on the command line.
        device: What the session is given as its ``device``: a name, or a function that makes one for a SoC.
        about: One sentence for the help text and the reports; says so where something is simulated.
        rounds: Whether it rounds as an NPU does, so that outputs get the precision's tolerance; else float32's.
        options: More provider options.
        lacks: SoC and precision it cannot do, as a pattern (``*/w4a16``) -> why, and what can.
        skips: Case-name pattern (as in a shell) -> why it is not run. ``rk3566/int8:node/test_x``: only there.
        xfails: Case-name pattern, likewise -> why it fails.
    """

    name: str
    device: str | Callable[[str], Any]
    about: str
    rounds: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    skips: Mapping[str, str] = field(default_factory=dict)
    xfails: Mapping[str, str] = field(default_factory=dict)

    def wish(self, target: str) -> Any:
        """Device that a session for this SoC is given."""
        return self.device if isinstance(self.device, str) else partial(self.device, target)

    def refusal(self, target: str, precision: str) -> str | None:
        """Reason why there is nothing to run for this SoC and precision; ``None`` when there is."""
        return next((why for pattern, why in self.lacks.items() if fnmatchcase(f"{target}/{precision}", pattern)), None)

    @contextmanager
    def session(self, model: str | bytes, target: str, options: Mapping[str, Any]) -> Iterator[Any]:
        """A session of a model on this flow, closed at the end.

        Args:
            model: Path or content.
            target: SoC.
            options: The provider's.
        """
        from ort_rknn.api.session import InferenceSession
        from ort_rknn.ort_conventions import RKNN_PROVIDER

        providers = [(RKNN_PROVIDER, dict(options)), "CPUExecutionProvider"]
        # no fallback: or an error of ours would become a comparison of the CPU with itself
        with InferenceSession(model, providers=providers, device=self.wish(target), enable_fallback=0) as opened:
            yield opened

    def mark(self, case: str, target: str = "", precision: str = "") -> tuple[Mark, str] | None:
        """Mark of a case by the flow: skip or xfail, and the reason."""
        marks: tuple[tuple[Mark, Mapping[str, str]], ...] = (("skip", self.skips), ("xfail", self.xfails))
        for kind, table in marks:
            for pattern, reason in table.items():
                if fnmatchcase(f"{target}/{precision}:{case}", pattern if ":" in pattern else f"*:{pattern}"):
                    return kind, reason
        return None

    def provider_options(self, target: str, precision: str, **more: Any) -> dict[str, Any]:
        """The options a session of this flow is opened with."""
        meant = MIXED if precision == "mixed" else {"precision": precision}
        return {"target": target, **meant, **self.options, **more}


FLOWS: tuple[str, ...] = ("simulator", "toolkit", "cpu", "emulated", "npu", "lite", "remote")
"""The flows by name; each is ``flows/<name>.py`` with a constant ``FLOW``."""


def find_flow(name: str) -> Flow:
    """The flow called ``name``.

    Raises:
        ValueError: There is no such flow; the message lists the known ones.
    """
    if name not in FLOWS:
        raise ValueError(f"unknown flow {name!r}. Known flows: {', '.join(FLOWS)}")
    flow = importlib.import_module(f"ort_rknn_conformance.flows.{name}").FLOW
    assert isinstance(flow, Flow)
    return flow
