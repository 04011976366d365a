"""Native lanes over a fake device: the vendor's calls are C callbacks into Python.

So the engine's tests, gates and all, run on the native lanes' own code, with real C structures between.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from ctypes import CFUNCTYPE, POINTER, c_int, c_uint32, c_uint64, c_void_p
from typing import Any

import numpy as np

from ort_rknn.devices.base import SegmentCode
from ort_rknn.devices.fake import FakeContext
from ort_rknn.devices.program import LaneContexts
from ort_rknn.devices.rknnrt.abi import Input, Output
from ort_rknn.devices.rknnrt.native_calls import (
    Calls,
    InputForm,
    NativeLibrary,
    NativeOutcome,
    OutputForm,
    native_library,
)
from ort_rknn.devices.rknnrt.tensor_layout import address_of
from ort_rknn.engine.lanes.base import LaneOpener, LaneSetup
from ort_rknn.engine.lanes.native import NativeLanes
from ort_rknn.errors import DeviceError
from tests.helpers.emulated_npu import build_native

_SET = CFUNCTYPE(c_int, c_uint64, c_uint32, POINTER(Input))
_RUN = CFUNCTYPE(c_int, c_uint64, c_void_p)
_GET = CFUNCTYPE(c_int, c_uint64, c_uint32, POINTER(Output), c_void_p)
_RELEASE = CFUNCTYPE(c_int, c_uint64, c_uint32, c_void_p)


def built_library() -> NativeLibrary:
    """The native library of this source tree."""
    os.environ["ORT_RKNN_NATIVE_LIBRARY"] = str(build_native())
    library = native_library()
    assert library is not None
    return library


class FakeIo:
    """Arrays go in and come out as they are."""

    def __init__(self, code: SegmentCode) -> None:
        self.inputs = code.inputs
        self.outputs = code.outputs

    def own(self, position: int, array: Any) -> None:
        return None

    def shown(self, position: int, owned: Any) -> Any:
        return owned

    def turned(self, inputs: Sequence[Any]) -> int:
        return 0

    def prepare(self, inputs: Sequence[Any]) -> Sequence[Any]:
        return inputs

    def allocate_outputs(self, wanted: Sequence[bool] | None = None) -> list[Any]:
        wanted = wanted or [True] * len(self.outputs)
        return [
            np.empty(spec.shape, spec.dtype) if want else None for spec, want in zip(self.outputs, wanted, strict=True)
        ]

    def reserve_outputs(self, wanted: Sequence[bool] | None = None) -> tuple[list[Any], list[int]]:
        outputs = self.allocate_outputs(wanted)
        return outputs, [0 if array is None else address_of(array) for array in outputs]

    def take_over(self, outputs: list[Any], words: Sequence[int]) -> None:
        pass

    def finish(self, outputs: list[Any]) -> list[Any]:
        return outputs


class NativeFakeContext:
    """A fake context behind the vendor's calls."""

    def __init__(self, inner: FakeContext, library: NativeLibrary) -> None:
        self.inner = inner
        self.native: NativeLibrary | None = library
        self.io = FakeIo(inner.code)
        self._error: BaseException | None = None
        self._given: list[Any] = []
        self._made: Sequence[Any] = ()
        self._keep = _SET(self._inputs_set), _RUN(self._run), _GET(self._outputs_get), _RELEASE(lambda *_: 0)
        calls = Calls(*(ctypes.cast(function, c_void_p).value for function in self._keep))
        code = inner.code
        ins = (InputForm * len(code.inputs))()
        outs = (OutputForm * len(code.outputs))()
        for forms, specs in ((ins, code.inputs), (outs, code.outputs)):
            for place, (form, spec) in enumerate(zip(forms, specs, strict=True)):
                form.index, form.size = place, int(np.prod(spec.shape)) * spec.dtype.itemsize
        for form in outs:
            form.stored_size = form.size
        self.segment = library.short.ort_rknn_segment_new(ctypes.byref(calls), 1, len(ins), ins, len(outs), outs)

    def _inputs_set(self, context: int, count: int, inputs: Any) -> int:
        self._given = []
        for place, spec in enumerate(self.inner.code.inputs):
            data = ctypes.string_at(inputs[place].buf, inputs[place].size)
            self._given.append(np.frombuffer(data, spec.dtype).reshape(spec.shape))
        return 0

    def _run(self, context: int, extend: Any) -> int:
        try:
            self._made = self.inner.run(self._given)
        except BaseException as error:
            self._error = error
            return error.code if isinstance(error, DeviceError) and error.code else -1
        return 0

    def _outputs_get(self, context: int, count: int, outputs: Any, extend: Any) -> int:
        for place, array in enumerate(self._made):
            ctypes.memmove(outputs[place].buf, np.ascontiguousarray(array).tobytes(), array.nbytes)
        return 0

    def run_table(self, table: Any, outcome: NativeOutcome) -> None:
        assert self.native is not None
        self.native.long.ort_rknn_segment_infer(self.segment, table, ctypes.byref(outcome))

    def failed(self, outcome: NativeOutcome) -> BaseException:
        error, self._error = self._error, None
        assert error is not None
        return error

    def run(self, inputs: Sequence[Any], wanted: Sequence[bool] | None = None) -> list[Any]:
        return self.inner.run(inputs, wanted)

    def describe(self) -> Mapping[str, Any]:
        return self.inner.describe()

    def close(self) -> None:
        self.inner.close()
        if self.segment and self.native is not None:
            self.native.short.ort_rknn_segment_free(self.segment)
            self.segment = 0


class _Opener:
    def __init__(self, program: LaneOpener) -> None:
        self._program = program
        self._library = built_library()

    def open_lane(self, mask: int, share: LaneContexts | None = None) -> LaneContexts:
        inner = None if share is None else LaneContexts([context.inner for context in share.contexts])  # type: ignore
        opened = self._program.open_lane(mask, inner)
        return LaneContexts([NativeFakeContext(context, self._library) for context in opened.contexts])  # type: ignore


def native_lanes(program: LaneOpener, setup: LaneSetup) -> NativeLanes:
    """A lanes factory for programs on a fake device."""
    return NativeLanes(_Opener(program), setup)
