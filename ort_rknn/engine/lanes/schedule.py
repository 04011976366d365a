"""Decides which job goes to which core: reads ``schedule`` and ``tp_mode``, checks them, turns them into lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any, Protocol

from ort_rknn.devices.base import ALL_CORES, AUTO, core_mask
from ort_rknn.errors import InvalidOption
from ort_rknn_converters.util.frozen import frozen, replace

__all__ = [
    "ANY_CORE",
    "TP_MODES",
    "CoreChoice",
    "LanePlan",
    "LaneSpec",
    "core_of",
    "parse_schedule",
    "parse_tp_mode",
    "plan_lanes",
    "what_is_left",
]

ANY_CORE = -1
"""Core number of a lane whose mask leaves the choice to the driver, or spans several cores."""

TP_MODES: dict[str, int] = {
    "auto": AUTO,
    "all": ALL_CORES,
    "0": core_mask([0]),
    "1": core_mask([1]),
    "2": core_mask([2]),
    "0,1": core_mask([0, 1]),
    "0,1,2": core_mask([0, 1, 2]),
}
"""``tp_mode`` -> the vendor's ``RKNN_NPU_CORE_*`` mask."""


@frozen
class LaneSpec:
    """One lane to be.

    Attributes:
        index: Its number.
        core: Its core (or :data:`ANY_CORE`); of a lane that floats the one it is put on when its context fails.
        mask: Core mask of its context.
        floats: Whether the driver chooses the core of each inference, by the queues of all processes.
    """

    index: int
    core: int
    mask: int
    floats: bool = False

    @property
    def shown_core(self) -> int:
        """Core as users see it: -1 where the driver chooses."""
        return ANY_CORE if self.floats else self.core

    def settled(self) -> LaneSpec:
        """The lane on a core of its own: after a failure, so that a core that is broken is found."""
        return LaneSpec(self.index, self.core, core_mask([self.core])) if self.floats else self

    @property
    def weight(self) -> int:
        """Cores that one inference takes."""
        return 1 if self.mask == AUTO else self.mask.bit_count()

    @property
    def cores(self) -> tuple[int, ...]:
        """Numbers of its cores; none where the driver chooses."""
        if self.floats:
            return ()
        if self.core != ANY_CORE:
            return (self.core,)
        return () if self.mask in (AUTO, ALL_CORES) else tuple(bit for bit in range(3) if self.mask >> bit & 1)

    @property
    def place(self) -> str:
        """Cores of a lane in words."""
        if not self.cores:
            return "the cores the driver chooses"
        return f"core{'s' if len(self.cores) > 1 else ''} {', '.join(map(str, self.cores))}"


@frozen
class LanePlan:
    """The lanes of an engine.

    Attributes:
        lanes: The first lane of every core comes before the second of any, so that jobs spread over cores first.
        pins: Core of each job in turn; ``None`` when any lane may take any job.
        notes: Sentences on what differs from the plan by now (cores taken out of service).
        elastic: Whether their number is our choice: there are fewer while other sessions want the NPU, too.
    """

    lanes: tuple[LaneSpec, ...]
    pins: tuple[int, ...] | None
    notes: tuple[str, ...] = ()
    elastic: bool = False

    @property
    def cores(self) -> int:
        """Number of distinct cores (1 where the driver spreads the work itself)."""
        return len({lane.core for lane in self.lanes})

    def __str__(self) -> str:
        how = "any free lane" if self.pins is None else f"job i on core {list(self.pins)}[i % {len(self.pins)}]"
        rows = [f"{len(self.lanes)} lane(s), {how}"]
        rows += [
            f"  lane {lane.index}: "
            + (f"core {lane.core}" if lane.shown_core != ANY_CORE else "cores chosen by the driver")
            + f" (mask {lane.mask:#x})"
            for lane in self.lanes
        ]
        return "\n".join([*rows, *self.notes])


def what_is_left(lanes: Iterable[LaneSpec]) -> str:
    """Names what lanes in service can still use, for the sentence that says why others cannot."""
    specs = list(lanes)
    if not specs:
        return "no core is left"
    if not all(spec.cores for spec in specs):
        return f"{len(specs)} lane(s) left, on the cores the driver chooses"
    return f"{len({core for spec in specs for core in spec.cores})} core(s) left"


def core_of(job_id: int, pins: Sequence[int]) -> int:
    """Core of a job: ``pins[job_id % len(pins)]``."""
    return pins[job_id % len(pins)]


def parse_schedule(value: int | str | Iterable[Any]) -> tuple[int, ...]:
    """Read a schedule: a core number, ``"0,1,2"`` (brackets and spaces tolerated) or a sequence of core numbers.

    Raises:
        InvalidOption: Empty, negative, or not made of whole numbers.
    """
    wrong = InvalidOption(
        f'schedule must be a core number, "0,1,2" or a sequence of core numbers from 0 up, at least one; not {value!r}'
    )
    try:
        if isinstance(value, str):
            cores = tuple(int(part) for part in value.strip("[](){} ").split(","))
        elif isinstance(value, Iterable):
            cores = tuple(_core_number(item) for item in value)
        else:
            cores = (_core_number(value),)
    except (TypeError, ValueError):
        raise wrong from None
    if not cores or min(cores) < 0:
        raise wrong
    return cores


def _core_number(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return int(value) if isinstance(value, str) else index(value)


def parse_tp_mode(value: Any) -> str:
    """Read a ``tp_mode``; any case, spaces tolerated.

    Raises:
        InvalidOption: Not one of :data:`TP_MODES`.
    """
    word = str(value).replace(" ", "").lower()
    if word not in TP_MODES:
        raise InvalidOption(f"tp_mode must be one of {', '.join(map(repr, TP_MODES))}, not {value!r}")
    return word


class CoreChoice(Protocol):
    """The engine's options that choose cores."""

    @property
    def cores(self) -> int | None:
        """Most cores to use."""

    @property
    def threads_per_core(self) -> int | None:
        """Contexts on each core."""

    @property
    def schedule(self) -> tuple[int, ...] | None:
        """Core of each job in turn."""

    @property
    def tp_mode(self) -> str | None:
        """A key of :data:`TP_MODES`."""

    @property
    def performance_hint(self) -> str:
        """``none``, ``latency`` or ``throughput``."""


def plan_lanes(
    options: CoreChoice, device_cores: int, *, native: bool = False, floats: bool = False, first: int = 0
) -> LanePlan:
    """The lanes that these options ask for on a device with this many cores.

    Native lanes get two contexts per core unless ``threads_per_core`` says how many: one transfers, and waits in the
    driver, while the other computes, so that a core has work even while Python is busy elsewhere (measured with a
    schedule of three cores at 0.5 ms: 98 % of what they can do, with one context 89 %). Contexts open on first
    concurrent use, and share the weights. Lanes of Python threads, and contexts that share a ``tp_mode``, are one each,
    as EZ RKNN Async's.

    Args:
        options: The engine's.
        device_cores: Cores of the device.
        native: Whether the lanes are native.
        floats: Whether the driver may choose the core of what nobody pinned: it sees the queues of all programs.
        first: Core at which a session begins where it may not.

    Raises:
        InvalidOption: A core is named that the device does not have.
    """
    cores = min(options.cores or device_cores, device_cores)
    contexts = options.threads_per_core or 1
    paired = native and options.threads_per_core is None
    if options.schedule is not None:
        wanted = sorted(set(options.schedule))
        _check_cores(wanted, device_cores, f"schedule {list(options.schedule)}")
        return replace(_lanes(wanted, 2 if paired else contexts, options.schedule, device_cores), elastic=paired)

    mode = options.tp_mode or ("auto" if options.performance_hint == "latency" else None)
    if mode is not None:
        mask = TP_MODES[mode]
        if mask not in (AUTO, ALL_CORES):
            _check_cores([core for core in range(3) if mask >> core & 1], device_cores, f"tp_mode {mode!r}")
        core = int(mode) if mode.isdigit() else ANY_CORE
        return LanePlan(tuple(LaneSpec(index, core, mask) for index in range(contexts)), None)

    if paired or options.performance_hint == "throughput":
        contexts = max(contexts, 2)
    order = [(core + first) % cores for core in range(cores)]
    floats = floats and device_cores > 1 and cores == device_cores
    return replace(_lanes(order, contexts, None, device_cores, floats=floats), elastic=paired)


def _lanes(
    cores: Sequence[int], contexts: int, pins: tuple[int, ...] | None, device_cores: int, *, floats: bool = False
) -> LanePlan:
    # A chip with one core refuses every mask but AUTO.
    lanes = [
        LaneSpec(number, core, AUTO if device_cores == 1 or floats else core_mask([core]), floats)
        for number, core in enumerate(core for _ in range(contexts) for core in cores)
    ]
    return LanePlan(tuple(lanes), pins)


def _check_cores(wanted: Sequence[int], device_cores: int, option: str) -> None:
    missing = [core for core in wanted if core >= device_cores]
    if missing:
        raise InvalidOption(
            f"{option} names core {missing[0]}, but the device has {device_cores} core(s): "
            f"{', '.join(map(str, range(device_cores)))}"
        )
