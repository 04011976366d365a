"""Device ``npu``: librknnrt on a board. Weights are shared between cores, results are written once, types are kept."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ort_rknn.accounting.context_sizes import expected_size, measured_size
from ort_rknn.accounting.ledger import LEDGER, Room, SizeWasWrong
from ort_rknn.accounting.one_load import one_load
from ort_rknn.devices.base import AUTO, Blob, Context, SegmentCode
from ort_rknn.devices.library_name import named_library
from ort_rknn.devices.rknnrt.abi import Flag
from ort_rknn.devices.rknnrt.context import NpuContext
from ort_rknn.devices.rknnrt.custom_ops import find_custom_ops, load_custom_ops, register
from ort_rknn.devices.rknnrt.library import RuntimeLibrary, failure, load
from ort_rknn.devices.rknnrt.native_calls import native_library
from ort_rknn.devices.rknnrt.open import (
    CoreMasks,
    HalfInputs,
    in_sets,
    init,
    init_flags,
    io_types,
    query_versions,
    size_of,
)
from ort_rknn.devices.segment_checks import (
    check_target,
    check_types,
    clamped_mask,
    cores_for,
    facts_of,
    numbers,
    same_code,
)
from ort_rknn.devices.settings import NpuSettings
from ort_rknn.devices.soc import Soc, detect, named_target
from ort_rknn.devices.time_limit import open_seconds, within
from ort_rknn.errors import DeviceError, DeviceUnavailable, NpuMemoryFull
from ort_rknn_converters.util.frozen import replace
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.devices.rknnrt.memory import NpuMemory

__all__ = ["NpuDevice", "check_target", "clamped_mask", "open_devices"]

GOOD_RUNTIME = (2, 3, 0)
"""Runtimes before this one are warned of: they do not open what the toolkit 2.3 and newer writes (users' reports)."""

GOOD_DRIVER = (0, 9, 6)
"""Drivers before this one fail on cores 1 and 2 (users' reports on 0.9.2 and 0.9.3)."""

NO_MEMORY = -4
"""RKNN_ERR_MALLOC_FAIL: what rknn_init says when the NPU's memory is full (1.6.0)."""

T = TypeVar("T")

_devices: weakref.WeakSet[NpuDevice] = weakref.WeakSet()
_loaders: weakref.WeakSet[NpuContext] = weakref.WeakSet()
"""Contexts that have loaded weights, which those of other sessions may share."""


def _all(members: weakref.WeakSet[T]) -> list[T]:
    """Copies a set that other threads add to."""
    while True:
        try:
            return list(members)
        except RuntimeError:  # it has grown meanwhile
            continue


def open_devices() -> list[NpuDevice]:
    """Every device of this process on which a segment is open."""
    return [device for device in _all(_devices) if device.in_use]


class NpuDevice:
    """The NPU of a Rockchip board, by the vendor's runtime.

    Args:
        settings: See :class:`~ort_rknn.devices.settings.NpuSettings`; default: the vendor's everywhere.
        root: Where the machine's file system is; tests give a made-up one.

    Attributes:
        board: Name of the NPU that devices of this process share: the runtime's file.
        native_library: The package's native library, if it is used.

    Raises:
        DeviceUnavailable: No NPU can be used here; the message says why and what to do.
    """

    name = "npu"
    needs = frozenset({"rknn"})

    def __init__(self, settings: NpuSettings | None = None, *, root: str | Path = "/") -> None:
        from ort_rknn_converters.targets import DEFAULT_TARGET, find_target

        self.settings = settings = settings or NpuSettings()
        library = settings.runtime_library
        self.soc: Soc = detect(root, settings.target or named_target())
        # Whoever names a library knows what he does: emulators and unusual boards have no device tree.
        if not named_library(library) and self.soc.problem:
            raise DeviceUnavailable(f"no NPU can be used: {self.soc.problem}")
        self.library: RuntimeLibrary = load(library)
        self.target = settings.target or self.soc.target
        self._cores = settings.npu_cores or find_target(self.target or DEFAULT_TARGET).cores
        folder = find_custom_ops() if settings.custom_op_default_path else ()
        self._custom_ops = load_custom_ops((*settings.custom_op_paths, *folder))
        self._flags = init_flags(settings)
        self._halves = HalfInputs(settings.half_inputs)
        self._masks = CoreMasks()
        self._loaded_again: set[str] = set()
        self._native = self.native_library = native_library() if settings.native else None
        self.board = os.path.realpath(self.library.path)
        self._contexts: weakref.WeakSet[NpuContext] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._versions: tuple[str, str] | None = None
        _devices.add(self)
        LEDGER.limit(self, settings.memory_budget)

    @property
    def cores(self) -> int:
        """Number of cores."""
        return self._cores

    @property
    def spreads(self) -> bool:
        """Whether the driver may choose the cores: it takes the one with the fewest jobs of all programs.

        Not below the driver of which owners say that cores 1 and 2 fail.
        """
        driver = numbers(self.soc.driver_version or "")
        return self._cores > 1 and not (driver and driver < GOOD_DRIVER)

    @property
    def native_lanes(self) -> bool:
        """Whether native lanes can run the contexts."""
        return self._native is not None

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> NpuContext:
        """Open a segment, see :meth:`ort_rknn.devices.base.Device.open`.

        ``share`` may be running in another thread; its weights are shared by ``rknn_dup_context``.
        """
        if code.rknn is None:
            raise DeviceError(f"segment {code.name} has no compiled code to run on an NPU (it was stripped)")
        mask = clamped_mask(mask, cores_for(code, self._cores, self.soc), self.target)
        check_target(code, self.soc)
        blob = code.rknn
        if isinstance(share, NpuContext) and self._may_share(share, code):
            dynamic, size = share.code.dynamic, 0
        else:
            dynamic, size = code.dynamic or in_sets(blob), size_of(blob)
        if dynamic and not code.dynamic:
            code = replace(code, dynamic=True)  # run before its shapes are set, it would abort the process
        seconds = self.settings.open_timeout or open_seconds(size)
        what = f"segment {code.name}"

        def opened(room: Room) -> NpuContext:
            def made() -> NpuContext:
                return within(
                    seconds,
                    self.library.call_under_way,
                    lambda: self._open(code, blob, mask, share, room),
                    NpuContext.close,
                    f"{what} was to be opened",
                )

            expected = self.bytes_to_open(code, share)
            context = self._again_if_full(made)
            try:
                context.entry = LEDGER.settle(room, expected, context.size, what)
            except NpuMemoryFull:
                context.close()
                raise
            return context

        alone = share is not None or dynamic or not self.settings.share_weights
        with nullcontext() if alone else one_load(blob, seconds):
            context = LEDGER.opened(lambda again: self.bytes_to_open(code, share, again), what, opened)
            self._contexts.add(context)
            if context.lender is None:
                _loaders.add(context)
        return context

    def bytes_to_open(self, code: SegmentCode, share: Context | None = None, alone: bool = False) -> int:
        """Bytes of NPU memory that a context of this segment will take, as far as that is known before.

        Args:
            code: The segment.
            share: A context whose weights may be shared.
            alone: Expect that none can be.
        """
        if code.rknn is None:
            return 0
        shares = not alone and self._finds_weights(code, share)
        return expected_size(code, size_of(code.rknn), shares=shares)

    def _finds_weights(self, code: SegmentCode, share: Context | None) -> bool:
        """Whether a new context can probably share weights that are there."""
        if isinstance(share, NpuContext) and share.loaded and self._may_share(share, code):
            return True
        if not self.settings.share_weights or code.dynamic or code.name in self._loaded_again:
            return False
        lenders = (one for one in _all(_loaders) if one.library is self.library and one.loaded)
        return any(self._may_share(one, code) for one in lenders)

    def _again_if_full(self, made: Callable[[], NpuContext]) -> NpuContext:
        """Open; where the runtime has no memory left, close what is idle in this process and try once more."""
        try:
            return made()
        except DeviceError as error:
            if error.code != NO_MEMORY:
                raise
            refused = NpuMemoryFull(str(error), call=error.call, code=error.code, code_name=error.code_name)
        if LEDGER.give_back_all():
            return made()
        raise refused

    def _open(self, code: SegmentCode, blob: Blob, mask: int, share: Context | None, room: Room) -> NpuContext:
        lender, handle = self._shared(code, blob, share)
        if handle is None:
            if self.bytes_to_open(code, alone=True) > room.left:  # whoever had the weights has closed them meanwhile
                raise SizeWasWrong(f"segment {code.name} cannot share the weights it was to share")
            handle = self._init(code, blob)
        try:
            check_types(code, self._look_at_versions(handle))
            register(self.library, handle, self._custom_ops)
            mask = self._masks.put(self.library, handle, mask)
            context = NpuContext(
                self.library,
                handle,
                code,
                mask,
                native=self._native,
                halves=self._halves,
                lender=lender,
                measures=bool(self._flags & Flag.COLLECT_PERF),
            )
            context.borrows = lender is not None and lender is not share
            context.size = measured_size(context, size_of(blob))
        except BaseException:
            self.library.function("rknn_destroy")(handle)
            if lender is not None:
                lender.taken_back()
            raise
        return context

    def io_types(self, blob: Blob) -> Mapping[str, str]:
        """The types of the inputs and outputs of compiled code that does not say them: the runtime does.

        Raises:
            DeviceError: The runtime does not open it.
        """

        def ask() -> Mapping[str, str]:
            result, handle = init(self.library, blob, self._flags)
            if result:
                raise failure("rknn_init", result, self._why_not("model", blob))
            try:
                return io_types(self.library, handle)
            finally:
                self.library.function("rknn_destroy")(handle)

        return within(
            self.settings.open_timeout or open_seconds(0), self.library.call_under_way, ask, len, "its types were asked"
        )

    def _shared(self, code: SegmentCode, blob: Blob, share: Context | None) -> tuple[NpuContext | None, int | None]:
        """A handle on another context's weights, and whose they are; nothing of both where none can be shared."""
        own = share if isinstance(share, NpuContext) and self._may_share(share, code) else None
        if own is not None and not own.borrows:
            try:
                handle = own.duplicate()
            except DeviceError as error:
                self._say_loaded_again(code, error)
                handle = None
            return (None, None) if handle is None else (own, handle)
        lenders = [own.lender] if own is not None else _all(_loaders) if self.settings.share_weights else []
        if code.dynamic:
            lenders = []  # the runtime refuses: "dynamic shape rknn model is not supported" (1.6.0)
        for lender in lenders:
            if lender is None or lender.library is not self.library or not self._may_share(lender, code):
                continue
            try:
                handle = lender.lend(partial(self._init, code, blob))
                if handle is not None:
                    return lender, handle
            except DeviceError as error:
                self._say_loaded_again(code, error)
        return None, None

    def _say_loaded_again(self, code: SegmentCode, error: DeviceError) -> None:
        if code.name not in self._loaded_again:
            text = str(error)  # a log must not keep the error, whose traceback keeps contexts open
            logger().warning("the weights of segment %s are loaded once more: %s", code.name, text)
        self._loaded_again.add(code.name)

    def _may_share(self, other: NpuContext, code: SegmentCode) -> bool:
        return not self._custom_ops and (other.code is code or same_code(other.code.rknn, code.rknn))

    def relative(self, code: SegmentCode) -> NpuContext | None:
        """An open context of the same segment, for ``share``."""
        open_ones = [one for one in _all(self._contexts) if one.lends and self._may_share(one, code)]
        # One that shares weights itself may be about to be bound to memory, and lends no more then.
        return min(open_ones, key=lambda one: one.lender is not None, default=None)

    @property
    def in_use(self) -> bool:
        """Whether a segment is open."""
        return any(context.handle for context in _all(self._contexts))

    def allocate(self, size: int) -> NpuMemory | None:
        """Memory that the program and the NPU share; ``None`` while no segment is open.

        Raises:
            DeviceError: The runtime has none.
        """
        memories = (context.allocate(size) for context in _all(self._contexts))
        return next((memory for memory in memories if memory is not None), None)

    def _init(self, code: SegmentCode, blob: Blob, lender: int = 0) -> int:
        result, handle = init(self.library, blob, self._flags, lender)
        if result:
            raise failure("rknn_init", result, self._why_not(code.name, blob))
        return handle

    def _why_not(self, segment: str, blob: Blob) -> str:
        """Compares what the file and the runtime say about themselves; text when they do not go together."""
        made = facts_of(blob)
        runtime = self._versions[0].split(" ")[0] if self._versions else self.library.version_on_disk()
        text = f"Segment {segment}"
        if made:
            text += f" was made by toolkit {made['version']} for {made['target']} (file format {made['format']})"
        text += f"; the runtime {self.library.path} is version {runtime or 'unknown'}"
        if made and runtime and numbers(runtime) < numbers(made["version"])[:2]:
            text += f": it is older than the toolkit. Install librknnrt {made['version']} or newer"
        elif made and self.soc.target and made["target"] not in ("", self.soc.target):
            text += f"; this board is {self.soc.target}. Compile for this target"
        else:
            text += ". 'Invalid RKNN model version' in the log above means that librknnrt is older than the toolkit"
        return text

    def _look_at_versions(self, handle: int) -> str:
        """The runtime's version; asked of the first context, when old ones are warned of."""
        with self._lock:
            if self._versions is not None:
                return self._versions[0]
            try:
                self._versions = query_versions(self.library, handle)
            except DeviceError:
                self._versions = ("", "")
        runtime, driver = map(numbers, self._versions)
        if runtime and runtime < GOOD_RUNTIME:
            logger().warning("librknnrt %s is old; 2.3.0 or newer is known to work", self._versions[0])
        if driver and driver < GOOD_DRIVER:
            logger().warning(
                "the rknpu driver %s is old: cores 1 and 2 are reported to fail before 0.9.6", self._versions[1]
            )
        return self._versions[0]

    def describe(self) -> Mapping[str, Any]:
        """SoC, cores, library, versions (known once a segment was opened), driver."""
        runtime, driver = self._versions or (self.library.version_on_disk() or "", self.soc.driver_version or "")
        return {
            "name": self.name,
            "target": self.target,
            "cores": self._cores,
            "library": self.library.path,
            "runtime": runtime,
            "driver": driver,
            "native": self._native is not None,
            "custom_ops": [op.op_type for op in self._custom_ops],
        }

    def close(self) -> None:
        """Close what was left open; the library stays loaded (it does not survive being unloaded)."""
        for context in _all(self._contexts):
            context.close()
