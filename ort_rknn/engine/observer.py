"""Observers of an engine: told every step and every inference, when it has ended."""

from __future__ import annotations

from typing import Protocol

from ort_rknn.devices.program import BoundCpuStep, BoundNpuStep

__all__ = ["Observer"]


class Observer(Protocol):
    """Watches an engine. Called from many threads, in the middle of the work: it must be quick and must not raise."""

    def step(
        self,
        job_id: int,
        step: BoundCpuStep | BoundNpuStep,
        begun: float,
        seconds: float,
        core: int | None = None,
        phases: tuple[float, float, float] | None = None,
    ) -> None:
        """A step has ended well.

        Args:
            job_id: Number of the inference.
            step: The step.
            begun: When it began, on the engine's clock.
            seconds: How long it took; inside the device, for an NPU step.
            core: Core that executed it; -1 where the driver chose, ``None`` on the CPU.
            phases: Seconds to set inputs, to infer and to fetch outputs, if the device says so.
        """

    def inference(self, job_id: int, begun: float, seconds: float, error: str = "") -> None:
        """An inference is over.

        Args:
            job_id: Its number.
            begun: When it was accepted, on the engine's clock.
            seconds: From then to its end.
            error: What went wrong, in words; empty when nothing did.
        """
