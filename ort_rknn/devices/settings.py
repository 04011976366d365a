"""Settings of devices as values: their fields are the one place where these options have defaults."""

from __future__ import annotations

import os

from ort_rknn_converters.util.frozen import frozen

__all__ = ["PRIORITIES", "DeviceOptions", "NpuSettings"]

PRIORITIES = ("normal", "high", "medium", "low")
"""Classes, the default first; the vendor's levels are high (its default, which normal leaves), medium and low."""


@frozen
class NpuSettings:
    """Settings of device ``npu``, which is one NPU by the vendor's runtime.

    Attributes:
        target: The SoC; default: the one the device tree names, else the one the code is for.
        runtime_library: The runtime's path; default: ``ORT_RKNN_RUNTIME_LIBRARY``, else the usual names and folders.
        priority: Flag of ``rknn_init``: ``normal`` and ``high`` are the vendor's default, ``medium`` and ``low`` its
            other levels. The public driver reads none of them; :mod:`ort_rknn.engine.sharing.arbiter` goes by the word.
        sram: Let the runtime use the SoC's SRAM for internal tensors.
        share_sram: Let contexts use the same part of it, one after the other.
        collect_perf: Collect times per layer (slower), see ``NpuContext.perf_detail``.
        init_flags: More bits for ``rknn_init``, by the vendor's header.
        share_weights: Take the weights of the same compiled code from where this process has loaded it already.
        custom_op_paths: Libraries with custom operators, made known to every context; weights are then not shared.
        custom_op_default_path: Take those in the vendor's folder for them too.
        half_inputs: Hand float32 pictures over as float16 where the NPU keeps that and the runtime takes it; with the
            native library only.
        npu_cores: NPU cores; default: the SoC's.
        native: Make an inference one call of the native library instead of four from Python.
        memory_budget: Bytes of NPU memory that all contexts of this process may take; default: the NPU's address space,
            or 80 % of the RAM where that is less. The least that any device names holds.
        open_timeout: Seconds that opening a segment may take; default: by its size.
    """

    target: str | None = None
    runtime_library: str | os.PathLike[str] | None = None
    priority: str = PRIORITIES[0]
    sram: bool = False
    share_sram: bool = False
    collect_perf: bool = False
    init_flags: int = 0
    share_weights: bool = False
    custom_op_paths: tuple[str | os.PathLike[str], ...] = ()
    custom_op_default_path: bool = False
    half_inputs: bool = True
    npu_cores: int | None = None
    native: bool = True
    memory_budget: int | None = None
    open_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.priority not in PRIORITIES:
            raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}, not {self.priority!r}")


@frozen
class DeviceOptions(NpuSettings):
    """Options of a session's device: the NPU's settings, and those of the simulator that stands in for one.

    Attributes:
        share_weights: As the NPU's; on by default, so that sessions of one model load it once (never seen on a board;
            where the runtime refuses, the weights are loaded again).
        simulator_cores: Pretend cores; default: as many as the SoC has.
        simulator_latency_ms: Time one inference takes on a pretend core, in milliseconds.
    """

    share_weights: bool = True
    simulator_cores: int | None = None
    simulator_latency_ms: float = 0.0
