"""Device ``lite``: the vendor's Python package rknn-toolkit-lite2, where somebody wants it rather than the library.

It is a wrapper of librknnrt that loses run errors, gives float32 only, checks no sizes and cannot share weights; what
is done about each is said where it is done. Device ``npu`` is faster and has none of this. Tested with the real
package (2.5.0 always, 2.3.2 once) under qemu on an emulated librknnrt, never on a board.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.devices.base import AUTO, Context, SegmentCode
from ort_rknn.devices.rknnrt.library import failure
from ort_rknn.devices.rknnrt.lite_quirks import heard, well_behaved
from ort_rknn.devices.rknnrt.native_calls import native_library
from ort_rknn.devices.rknnrt.tensor_layout import IoPlan, OutputPlan
from ort_rknn.devices.segment_checks import check_target, clamped_mask
from ort_rknn.devices.soc import Soc, detect, named_target
from ort_rknn.errors import DeviceError, DeviceUnavailable

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array

__all__ = ["LiteContext", "LiteDevice"]

PACKAGE = "rknn-toolkit-lite2"
LIBRARIES = ("usr/lib/librknn_runtime.so", "usr/lib64/librknn_runtime.so", "usr/lib/librknnrt.so")
"""The only places the package looks at."""

EXACT = 2**24
"""Integers from here on are not all exact in the float32 it gives."""


class LiteDevice:
    """The NPU of a Rockchip board, by rknn-toolkit-lite2.

    Args:
        target: What the device tree says when this is ``None``; else it must agree with it.
        root: Where the machine's file system is; tests give a made-up one.

    Attributes:
        board: Name of the NPU that devices of this process share: the runtime's file.
        native_library: The package's native library, if it was built.
        spreads: Whether the driver may choose the cores.

    Raises:
        DeviceUnavailable: No NPU can be used this way; the message says why and what to do.
    """

    name = "lite"
    needs = frozenset({"rknn"})

    def __init__(self, *, target: str | None = None, root: str | Path = "/") -> None:
        from ort_rknn_converters.targets import find_target

        if importlib.util.find_spec("rknnlite") is None:
            raise DeviceUnavailable(
                f"{PACKAGE} is not installed; pip install it (aarch64, Python 3.12 or older), or use device='npu'"
            )
        self.soc: Soc = detect(root, target or named_target())
        if self.soc.problem:
            raise DeviceUnavailable(f"no NPU can be used: {self.soc.problem}")
        if self.soc.named:
            raise DeviceUnavailable(
                f"{PACKAGE} reads the device tree itself, which is hidden here or names no SoC that it knows: a name "
                "in its place does not help it. Start the container with --security-opt systempaths=unconfined, or use "
                "device='npu', which takes ORT_RKNN_TARGET"
            )
        if not any((Path(root) / library).exists() for library in LIBRARIES):
            raise DeviceUnavailable(
                f"{PACKAGE} takes the NPU's runtime library from /usr/lib/librknnrt.so only, and there is none; "
                "put it there, or use device='npu', which takes any path"
            )
        here = find_target(self.soc.target or "")
        if target is not None and find_target(target) != here:
            raise DeviceUnavailable(f"{PACKAGE} works for the board it runs on: this is {here.name}, not {target}")
        self.target = here.name
        self._cores, self._masks = here.cores, here.core_masks
        self._contexts: weakref.WeakSet[LiteContext] = weakref.WeakSet()
        self.board = "/usr/lib/librknnrt.so"  # what the package opens, whatever else there is
        self.native_library = native_library()
        self.spreads = self._cores > 1

    @property
    def cores(self) -> int:
        """Number of cores."""
        return self._cores

    def open(self, code: SegmentCode, mask: int = AUTO, share: Context | None = None) -> LiteContext:
        """Open a segment, see :meth:`ort_rknn.devices.base.Device.open`.

        Every context loads the weights for itself: ``share`` cannot be heeded.
        """
        if code.rknn is None:
            raise DeviceError(f"segment {code.name} has no compiled code to run on an NPU (it was stripped)")
        if code.dynamic:
            raise DeviceError(
                f"segment {code.name} was compiled for several input shapes, and {PACKAGE} does not say which one its "
                "outputs have; use device='npu'"
            )
        mask = clamped_mask(mask, self._cores, self.target)
        if mask != AUTO and mask not in self._masks:
            raise DeviceError(
                f"{PACKAGE} takes no core mask {mask:#x} on {self.target}, only {', '.join(map(hex, self._masks))}; "
                "device='npu' takes it",
                call="init_runtime",
            )
        check_target(code, self.soc)
        context = LiteContext(code, mask)
        self._contexts.add(context)
        return context

    def describe(self) -> Mapping[str, Any]:
        """SoC, cores, the package's version, driver."""
        return {
            "name": self.name,
            "target": self.target,
            "cores": self._cores,
            "package": _version(),
            "driver": self.soc.driver_version or "",
        }

    def close(self) -> None:
        """Close what was left open."""
        for context in list(self._contexts):
            context.close()


class LiteContext:
    """An opened segment: one ``RKNNLite`` object that only this context knows, for one thread at a time.

    Attributes:
        code: The segment.
        phases: Seconds the last :meth:`run` took to set inputs, to infer and to fetch outputs; ``None`` before.
    """

    def __init__(self, code: SegmentCode, mask: int) -> None:
        self.code = code
        self.phases: tuple[float, float, float] | None = None
        self._mask = mask
        self._use = threading.Lock()
        self._lite: Any = None
        lines: list[str] = []
        try:
            with well_behaved() as lines:
                self._open(mask)
                self._io = self._plan()
        except DeviceError as error:
            self.close()
            raise _said(error, lines) from error.__cause__
        except Exception as error:
            self.close()
            raise _said(
                DeviceError(f"segment {code.name}: {PACKAGE} failed: {error}", call="init_runtime"), lines
            ) from error
        except BaseException:
            self.close()
            raise

    def _open(self, mask: int) -> None:
        from rknnlite.api import RKNNLite

        blob = self.code.rknn
        assert blob is not None
        self._lite = RKNNLite()
        if blob.path is not None:
            if self._lite.load_rknn(blob.path):
                raise DeviceError(f"segment {self.code.name}: load_rknn failed", call="load_rknn", code=-1)
        else:
            self._lite.rknn_data = blob.read()
        # target stays None: on a board anything else is refused. AUTO (0) means that no mask is set.
        code = self._lite.init_runtime(core_mask=mask)
        if code:
            raise DeviceError(
                f"segment {self.code.name}: init_runtime failed ({code}), core mask {mask:#x}",
                call="init_runtime",
                code=code,
            )

    @property
    def _infer(self) -> Callable[[list[Array]], list[Array]]:
        runtime = self._lite.rknn_runtime
        steps = all(hasattr(runtime, name) for name in ("set_inputs", "run", "get_outputs"))
        return self._by_steps if steps else self._at_once

    def _plan(self) -> IoPlan | None:
        """Inputs and outputs the code really has, by the package's own undocumented questions, or ``None``."""
        runtime = self._lite.rknn_runtime
        if not hasattr(runtime, "get_tensor_attr") or not hasattr(runtime, "get_in_out_num"):
            return None
        inputs, outputs = runtime.get_in_out_num()
        return IoPlan(
            self.code,
            [runtime.get_tensor_attr(index) for index in range(inputs)],
            [runtime.get_tensor_attr(index, True) for index in range(outputs)],
            nhwc=False,
        )

    def run(self, inputs: Sequence[Array], wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Run one inference, see :meth:`ort_rknn.devices.base.Context.run`."""
        if not self._use.acquire(blocking=False):
            raise DeviceError(
                f"segment {self.code.name}: one context is used by two threads, which mixes their results"
            )
        try:
            if self._lite is None:
                raise DeviceError(f"segment {self.code.name}: its context is closed")
            given = self._checked(inputs)
            with heard() as lines:
                try:
                    raw = self._infer(given)
                except DeviceError as error:
                    raise _said(error, lines) from None
                except Exception as error:
                    raise DeviceError(
                        f"segment {self.code.name}: {PACKAGE} failed: {error}", call="inference"
                    ) from error
            return self._finished(raw, wanted)
        finally:
            self._use.release()

    def _checked(self, inputs: Sequence[Array]) -> list[Array]:
        """The inputs in the runtime's order. The package would take arrays of any size, and read beyond their end."""
        code = self.code
        if len(inputs) != len(code.inputs):
            raise DeviceError(f"segment {code.name}: {len(inputs)} input(s) given, it has {len(code.inputs)}")
        for spec, array in zip(code.inputs, inputs, strict=True):
            if array.dtype != spec.dtype or array.shape != spec.shape:
                raise DeviceError(
                    f"segment {code.name}: input {spec.name!r} must be {spec.dtype} {list(spec.shape)}, "
                    f"not {array.dtype} {list(array.shape)}"
                )
        if self._io is None:
            return [np.ascontiguousarray(array).reshape(array.shape or (1,)) for array in inputs]
        given: list[Any] = [None] * len(inputs)
        for plan, array in zip(self._io.inputs, self._io.prepare(inputs), strict=True):
            # Its ranks must be the compiled code's, which may have more or fewer dimensions of 1.
            given[plan.index] = np.ascontiguousarray(array).reshape(array.shape if array.ndim == 4 else plan.dims)
        return given

    def _format(self, given: Sequence[Array]) -> list[str] | None:
        """Without 'nchw' it takes 4-D data for NHWC, or scrambles it."""
        return ["nchw"] * len(given) if any(array.ndim == 4 for array in given) else None

    def _by_steps(self, given: list[Array]) -> list[Array]:
        """The three steps of ``inference``, which itself forgets what ``rknn_run`` returned."""
        runtime, clock = self._lite.rknn_runtime, time.perf_counter
        begun = clock()
        runtime.set_inputs(given, None, self._format(given))
        ready = clock()
        code = runtime.run(False)
        if code:
            raise failure("rknn_run", code, f"Segment {self.code.name}, core mask {self._mask:#x}")
        ran = clock()
        outputs: list[Array] | None = runtime.get_outputs()
        if outputs is None:
            raise DeviceError(f"segment {self.code.name}: get_outputs failed", call="rknn_outputs_get", code=-1)
        self.phases = (ready - begun, ran - ready, clock() - ran)
        return outputs

    def _at_once(self, given: list[Array]) -> list[Array]:
        """For versions of the package without the steps: a failed ``rknn_run`` cannot be seen."""
        outputs: list[Array] | None = self._lite.inference(inputs=given, data_format=self._format(given))
        if outputs is None:
            raise DeviceError(f"segment {self.code.name}: inference failed", call="inference", code=-1)
        return outputs

    def _finished(self, raw: Sequence[Array], wanted: Sequence[bool] | None) -> list[Array | None]:
        specs = self.code.outputs
        if len(raw) != len(specs):
            raise DeviceError(f"segment {self.code.name}: {len(raw)} output(s) came back, it has {len(specs)}")
        plans: Sequence[OutputPlan | None] = self._io.outputs if self._io else [None] * len(specs)
        results: list[Array | None] = []
        for number, (spec, plan) in enumerate(zip(specs, plans, strict=True)):
            if wanted is not None and not wanted[number]:
                results.append(None)
                continue
            array = raw[plan.index if plan else number]
            if plan and plan.nhwc:
                n, c, h, w = spec.shape
                array = np.ascontiguousarray(array.reshape(n, h, w, c).transpose(0, 3, 1, 2))
            if spec.dtype.kind in "iu":
                # float32 is all it gives. A wrong index is worse than none.
                if array.size and float(np.abs(array).max()) >= EXACT:
                    raise DeviceError(
                        f"segment {self.code.name}: output {spec.name!r} is {spec.dtype} and has values of 2**24 or "
                        f"more, which {PACKAGE} gives as inexact float32; device='npu' gives them exactly"
                    )
                array = np.rint(array)
            results.append(array.astype(spec.dtype, copy=False).reshape(spec.shape))
        return results

    def describe(self) -> Mapping[str, Any]:
        """Core mask and versions."""
        if self._lite is None:
            return {"segment": self.code.name, "closed": True}
        with well_behaved():
            versions = " ".join(str(self._lite.get_sdk_version() or "").split())
        return {"segment": self.code.name, "core_mask": self._mask, "package": _version(), "runtime": versions}

    def close(self) -> None:
        """Release the object: the package never does it by itself. May be called twice."""
        lite, self._lite = self._lite, None
        if lite is not None:
            with well_behaved():
                lite.release()


def _version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _said(error: DeviceError, lines: Sequence[str]) -> DeviceError:
    """The error with what the package logged meanwhile."""
    if not lines:
        return error
    text = f"{error}. {PACKAGE} says: {'; '.join(dict.fromkeys(lines))}"
    return DeviceError(text, call=error.call, code=error.code, code_name=error.code_name)
