"""Maps a segment's ONNX tensors to the runtime's: types, layouts, and what must be converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn.devices.base import SegmentCode, TensorSpec
from ort_rknn.devices.rknnrt.abi import MAX_DIMS, NUMPY_OF, TYPE_OF, Format, Qnt, TensorAttr, TensorType
from ort_rknn.devices.rknnrt.buffer_pool import Blocks
from ort_rknn.devices.rknnrt.native_calls import InputForm, NativeLibrary, OutputForm
from ort_rknn.errors import DeviceError
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from ort_rknn.devices.base import Array

__all__ = [
    "CONVERTED",
    "LATE",
    "InputPlan",
    "IoPlan",
    "OutputPlan",
    "address_of",
    "addresses_of",
    "is_quantized",
    "matched",
    "runtime_shape",
]

_REAL = frozenset({TensorType.FLOAT32, TensorType.FLOAT16, TensorType.UINT8})
CONVERTED: Mapping[int, frozenset[int]] = {
    TensorType.FLOAT32: _REAL,
    TensorType.FLOAT16: _REAL,
    TensorType.INT8: _REAL,
    TensorType.UINT8: _REAL,
    TensorType.INT16: frozenset({TensorType.FLOAT32}),
    TensorType.INT32: frozenset({TensorType.INT32}),
    TensorType.INT64: _REAL | {TensorType.INT32, TensorType.INT64},
    TensorType.BOOL: frozenset({TensorType.BOOL}),
}
"""What the NPU keeps -> what ``rknn_inputs_set`` turns into that.

Of anything else librknnrt 1.6.0 takes no data and returns 0 all the same (asked: fp16, int8, int64; the others are a
guess on the safe side). int8 into a quantized int8 is left out: whether it is quantized or taken as it is was not seen.
"""

MOST_BYTES = 1 << 31
"""A tensor with more bytes is a runtime's mistake: 1.6.0 says 4294967168 of an output whose type it does not know."""

MOST_SHORT = 8 << 20
"""Larger inputs are turned without the interpreter's lock: it takes about as long as getting the lock back. A guess."""


LATE: Any = object()
"""In the place of an output whose memory is taken when the NPU is through."""


def address_of(array: Array) -> int:
    """Address of an array's data. ``array.ctypes`` would take four times as long."""
    try:
        data: Any = array
        return ctypes.addressof(ctypes.c_char.from_buffer(data))
    except (TypeError, ValueError, BufferError):  # read-only, empty, or of a type without a buffer format
        address: int = array.__array_interface__["data"][0]
        return address


def addresses_of(arrays: Sequence[Any], view: Any = ctypes.c_char.from_buffer, at: Any = ctypes.addressof) -> list[int]:
    """Addresses of arrays' data, 0 for ``None``; quicker than one by one where all are ordinary."""
    try:
        return [at(view(array)) for array in arrays]
    except (TypeError, ValueError, BufferError):
        return [0 if array is None else address_of(array) for array in arrays]


def runtime_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape the compiled code has for an ONNX shape: rank 0 became ``(1,)``."""
    return tuple(shape) or (1,)


@frozen
class InputPlan:
    """One input.

    Attributes:
        index: Its number in the runtime.
        dtype: What callers give, once prepared; the ONNX dtype where the runtime knows it.
        type: What is handed over, as the runtime's constant.
        fmt: Layout handed over.
        turn: ``(batch, channels, points)`` when NCHW must become NHWC, else ``None``.
        size: Bytes that are handed over.
        dims: The compiled code's own dimensions.
        half: Whether float32 is given and float16 handed over.
    """

    index: int
    dtype: np.dtype[Any]
    type: int
    fmt: int
    turn: tuple[int, int, int] | None
    size: int
    dims: tuple[int, ...]
    half: bool


@frozen
class OutputPlan:
    """One output.

    Attributes:
        index: Its number in the runtime.
        shape: ONNX shape.
        dtype: ONNX dtype.
        raw: dtype the runtime writes.
        want_float: Whether the runtime converts to float32.
        stored_size: Bytes in the NPU's own type.
        nhwc: Whether the runtime writes NHWC, which must be turned.
    """

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    raw: np.dtype[Any]
    want_float: bool
    stored_size: int
    nhwc: bool

    @property
    def direct(self) -> bool:
        """Whether the runtime writes exactly the caller's array."""
        return self.raw == self.dtype and not self.nhwc

    @property
    def written(self) -> tuple[int, ...]:
        """Shape of what the runtime writes."""
        return _nhwc_of(self.shape) if self.nhwc else self.shape

    def finish(self, array: Array) -> Array:
        """The ONNX value of what the runtime wrote."""
        if self.nhwc:
            array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
        if array.dtype == self.dtype:
            return array
        if array.dtype.kind == "f" and self.dtype.kind in "iu":
            array = np.rint(array)
        return array.astype(self.dtype)


class IoPlan:
    """All inputs and outputs of a segment on a context.

    Args:
        code: The segment.
        inputs: The runtime's attributes, in its order.
        outputs: The same for outputs.
        nhwc: Whether NCHW is turned into NHWC here; else the runtime is told that it gets NCHW.
        halves: Whether what is turned becomes float16 on the way, where that is what the NPU keeps. The values are
            those the runtime would make of them; native code only.
        native: The native library that is used, if any.

    Raises:
        DeviceError: The compiled code does not have the segment's inputs and outputs.
    """

    def __init__(
        self,
        code: SegmentCode,
        inputs: Sequence[TensorAttr],
        outputs: Sequence[TensorAttr],
        *,
        nhwc: bool = True,
        halves: bool = False,
        native: NativeLibrary | None = None,
    ) -> None:
        pairs = matched(code, "input", code.inputs, inputs)
        self.inputs = tuple(_plan_input(spec, attr, nhwc, halves) for spec, attr in pairs)
        self.outputs = tuple(_plan_output(spec, attr) for spec, attr in matched(code, "output", code.outputs, outputs))
        self.convert = tuple(
            plan.dtype if plan.dtype != spec.dtype else None
            for plan, spec in zip(self.inputs, code.inputs, strict=True)
        )
        self._converts = any(self.convert)
        self._turns = tuple(i for i, plan in enumerate(self.inputs[:64]) if plan.turn and self.convert[i] is None)
        self._native = native
        self._blocks = blocks = Blocks(native)
        self._makers = [blocks.maker(plan.written, plan.raw) for plan in self.outputs]
        self._late = [blocks.late(plan.written, plan.raw) for plan in self.outputs]
        self._direct = all(plan.direct for plan in self.outputs)

    def prepare(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """The arrays to hand over: the caller's own but for dtypes the runtime does not convert (float64, int16)."""
        if not self._converts:
            return inputs
        return [
            array if dtype is None else array.astype(dtype) for array, dtype in zip(inputs, self.convert, strict=True)
        ]

    def own(self, position: int, array: Array) -> Any:
        """Copies an input into the layout that is handed over: memory from :meth:`Blocks.loan`, see :meth:`shown`.

        It is float16 where that is handed over. ``None`` where the input is not turned.
        """
        plan = self.inputs[position]
        if plan.turn is None or self.convert[position] is not None or self._native is None:
            return None
        batch, channels, points = plan.turn
        loan = self._blocks.loan(plan.size)
        loan.shape = array.shape
        library = self._native.short if plan.size <= MOST_SHORT else self._native.long
        for sheet in range(batch):
            source = address_of(array) + sheet * (array.nbytes // batch)
            target = ctypes.addressof(loan) + sheet * (plan.size // batch)
            if plan.half:
                library.ort_rknn_interleave_half(source, target, channels, points)
            else:
                library.ort_rknn_interleave(source, target, channels, points, array.itemsize)
        return loan

    def shown(self, position: int, loan: Any) -> Array:
        """The array that :meth:`own` copied, or its float16."""
        plan = self.inputs[position]
        array: Array = np.frombuffer(loan, np.float16 if plan.half else plan.dtype).reshape(_nhwc_of(loan.shape))
        return array.transpose(0, 3, 1, 2)

    def turned(self, inputs: Sequence[Any]) -> int:
        """Bit i: input i is from :meth:`own`."""
        turned = 0
        for position in self._turns:
            if isinstance(inputs[position], ctypes.Array):
                turned |= 1 << position
        return turned

    def allocate_outputs(self, wanted: Sequence[bool] | None = None) -> list[Array | None]:
        """Arrays for the runtime to write; ``None`` for outputs nobody wants."""
        if wanted is None:
            return [make() for make in self._makers]
        return [make() if want else None for make, want in zip(self._makers, wanted, strict=True)]

    def reserve_outputs(self, wanted: Sequence[bool] | None = None) -> tuple[list[Any], list[int]]:
        """Arrays as well, but :data:`LATE` where native code takes the memory; and the words that tell it to."""
        outputs: list[Any] = []
        words = []
        for i, (make, late) in enumerate(zip(self._makers, self._late, strict=True)):
            if wanted is not None and not wanted[i]:
                outputs.append(None)
                words.append(0)
            elif late is None:
                outputs.append(array := make())
                words.append(address_of(array))
            else:
                outputs.append(LATE)
                words.append(late[0])
        return outputs, words

    def take_over(self, outputs: list[Any], words: Sequence[int]) -> None:
        """Puts the arrays that native code took memory for in their places, ``None`` where it did not come so far."""
        for i, late in enumerate(self._late):
            if late is not None and outputs[i] is LATE:
                outputs[i] = None if words[i] == late[0] else late[1](words[i])

    def finish(self, outputs: list[Array | None]) -> list[Array | None]:
        """The ONNX values of what the runtime wrote."""
        if self._direct:
            return outputs
        return [
            None if array is None else plan.finish(array) for plan, array in zip(self.outputs, outputs, strict=True)
        ]

    def input_forms(self) -> ctypes.Array[InputForm]:
        """The inputs for native code."""
        forms = (InputForm * max(1, len(self.inputs)))()
        for form, plan in zip(forms, self.inputs, strict=False):
            form.index, form.size, form.type, form.fmt = plan.index, plan.size, plan.type, plan.fmt
            if plan.turn:
                form.batch, form.channels, form.points = plan.turn
                form.item, form.half = plan.dtype.itemsize, plan.half
        return forms

    def output_forms(self) -> ctypes.Array[OutputForm]:
        """The outputs for native code."""
        forms = (OutputForm * max(1, len(self.outputs)))()
        for form, plan in zip(forms, self.outputs, strict=False):
            form.index, form.want_float, form.stored_size = plan.index, plan.want_float, plan.stored_size
            form.size = int(np.prod(plan.shape, dtype=np.int64)) * plan.raw.itemsize
        return forms


def matched(
    code: SegmentCode, kind: str, specs: Sequence[TensorSpec], attrs: Sequence[TensorAttr]
) -> list[tuple[TensorSpec, TensorAttr]]:
    """Each spec with its attribute: by name where the names agree, else by position."""
    if len(specs) != len(attrs):
        raise DeviceError(
            f"segment {code.name}: its compiled code has {len(attrs)} {kind}(s), the segment has {len(specs)}"
        )
    by_name = {attr.name.decode(errors="replace"): attr for attr in attrs}
    if set(by_name) == {spec.name for spec in specs}:
        return [(spec, by_name[spec.name]) for spec in specs]
    return list(zip(specs, attrs, strict=True))


def _dims(attr: TensorAttr) -> tuple[int, ...]:
    return tuple(attr.dims[: attr.n_dims])


def _nhwc_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    n, c, h, w = shape
    return n, h, w, c


def _check(spec: TensorSpec, attr: TensorAttr, kind: str) -> tuple[int, ...]:
    shape = runtime_shape(spec.shape)
    dims = _dims(attr)
    padded = getattr(attr, "size_with_stride", 0)  # rknn-toolkit-lite2's own attributes have none
    if max(int(attr.size), int(padded)) >= MOST_BYTES or int(attr.n_dims) > MAX_DIMS:
        raise DeviceError(
            f"{kind} {spec.name!r}: the runtime says it has {attr.size} bytes in {attr.n_dims} dimensions, which "
            "cannot be: it does not know its type; install the newest librknnrt"
        )
    fits = dims == shape or (len(shape) == 4 and attr.fmt == Format.NHWC and dims == _nhwc_of(shape))
    # The compiler may add or drop dimensions of 1; the bytes are the same then.
    if not fits and not (int(np.prod(dims)) == int(np.prod(shape)) and attr.fmt != Format.NHWC):
        layout = Format(attr.fmt).name if attr.fmt in set(Format) else attr.fmt
        raise DeviceError(
            f"{kind} {spec.name!r}: the compiled code has shape {list(dims)} ({layout}), the segment has {list(shape)}"
        )
    return shape


def is_quantized(attr: TensorAttr, stored: np.dtype[Any] | None) -> bool:
    """Whether a tensor's integers stand for other numbers.

    Runtimes call tensors quantized that are not, with a scale that changes nothing: 1.6.0 does so of every tensor.
    """
    small = stored is not None and stored.kind in "iu" and stored.itemsize <= 2
    return small and attr.qnt_type != Qnt.NONE and (attr.scale, attr.zp) != (1.0, 0)


def _handed_over(spec: TensorSpec, attr: TensorAttr) -> np.dtype[Any]:
    """The dtype in which an input reaches the runtime: one that it converts to what the NPU keeps."""
    stored = NUMPY_OF.get(int(attr.type))
    kept = stored if stored is not None and not is_quantized(attr, stored) else np.dtype(np.float32)
    if spec.dtype.kind not in "fiub" or spec.dtype.itemsize > 8:
        raise DeviceError(f"input {spec.name!r}: the NPU's runtime takes no {spec.dtype}")
    given = TYPE_OF.get(spec.dtype)
    if given == TensorType.BOOL and attr.type != TensorType.BOOL:
        given = TensorType.UINT8.value  # the same bytes
    if spec.dtype == kept or given in CONVERTED.get(int(attr.type), frozenset({TensorType.FLOAT32})):
        return spec.dtype
    return kept if kept.kind in "iub" else np.dtype(np.float32)


def _plan_input(spec: TensorSpec, attr: TensorAttr, nhwc: bool, halves: bool) -> InputPlan:
    shape = _check(spec, attr, "input")
    dtype = _handed_over(spec, attr)
    same_bytes = dtype == np.bool_ and attr.type != TensorType.BOOL
    type_ = TensorType.UINT8.value if same_bytes else TYPE_OF[dtype]
    fmt, turn = int(attr.fmt), None
    if len(shape) == 4:
        if attr.fmt == Format.NHWC:
            n, c, h, w = shape
            if c == 1 or h * w == 1:
                pass  # the same bytes either way
            elif nhwc:
                turn = (n, c, h * w)
            else:
                fmt = Format.NCHW.value
        else:
            fmt = Format.NCHW.value
    half = halves and turn is not None and dtype == np.float32 and attr.type == TensorType.FLOAT16
    if half:
        type_ = TensorType.FLOAT16.value
    size = int(np.prod(shape, dtype=np.int64)) * (2 if half else dtype.itemsize)
    return InputPlan(int(attr.index), dtype, type_, fmt, turn, size, _dims(attr), half)


def _plan_output(spec: TensorSpec, attr: TensorAttr) -> OutputPlan:
    shape = _check(spec, attr, "output")
    stored = NUMPY_OF.get(int(attr.type))
    quantized = is_quantized(attr, stored)
    # Integers stay integers: a float32 cannot hold what is above 2**24.
    if stored is None or stored == np.float32 or spec.dtype == np.float32 or quantized:
        want_float = True
    else:
        want_float = stored.kind == "f" and spec.dtype.kind != "f"
    raw = np.dtype(np.float32) if want_float or stored is None else stored
    nhwc = attr.fmt == Format.NHWC and len(shape) == 4 and shape[1] != 1 and shape[2] * shape[3] != 1
    elements = int(np.prod(shape, dtype=np.int64))
    stored_size = max(int(attr.size), elements * (stored.itemsize if stored is not None else 2))
    return OutputPlan(int(attr.index), spec.shape, spec.dtype, raw, want_float, stored_size, nhwc)
