"""The contract's questions about memory of the program's, duplicates, shapes, and how contexts begin and end."""

from __future__ import annotations

import ctypes
import struct
import tempfile
from collections.abc import Iterator, Sequence
from ctypes import byref, c_uint64, sizeof
from functools import partial

from ort_rknn.devices.rknnrt.abi import MemSize, Query, TensorAttr, TensorMem
from ort_rknn_conformance.hardware.contract.calls import Ask, Open, attributes, opened
from ort_rknn_conformance.hardware.contract.raw_runtime import FORMATS, TYPES, RawContext, RawRuntime
from ort_rknn_conformance.hardware.contract.sections import Teller

__all__ = ["memory_questions"]

IO_TYPES = ("f32", "f16", "i8", "u8")
FLAGS = tuple(1 << bit for bit in range(13))
HEADER_VERSION = 8
"""Where the model's version stands in a ``.rknn``."""


def memory_questions(runtime: RawRuntime, model: bytes, *, dynamic: bool) -> Iterator[tuple[str, Ask]]:
    """Sections by name, in the order of the record."""
    open_: Open = partial(opened, runtime, model)
    yield "zero copy", partial(_zero_copy, open_, native=False)
    yield "zero copy", partial(_zero_copy, open_, native=True)
    for side in ("out", "in"):
        for type_ in IO_TYPES:
            for part in (FORMATS[:2], FORMATS[2:3]) if side == "out" else (FORMATS[:1], FORMATS[1:2], FORMATS[2:3]):
                for fmt in part:
                    yield "io types", partial(_io_type, open_, side, type_, fmt)
    yield "small mem", partial(_small_memory, open_)
    yield "dup", partial(_duplicates, open_)
    yield "after destroy", partial(_after_destroy, open_)
    yield "shapes", partial(_shapes if dynamic else _no_shapes, open_)
    yield "init", partial(_init_errors, runtime, model)
    yield "flags", partial(_init_flags, runtime, model)


def _mem(context: RawContext, size: int) -> int | None:
    found: int | None = context.runtime.create_mem(context.handle, size)
    return found


def _bind(context: RawContext, mem: int | None, attr: TensorAttr) -> int:
    return int(context.runtime.set_io_mem(context.handle, mem, byref(attr)))


def _zero_copy(open_: Open, tell: Teller, *, native: bool) -> None:
    context = open_(tell)
    of_inputs, of_outputs = (Query.INPUT_ATTR, Query.OUTPUT_ATTR)
    if native:
        of_inputs, of_outputs = Query.NATIVE_INPUT_ATTR, Query.NATIVE_OUTPUT_ATTR
    mems = []
    for side, command, given in (("in", of_inputs, context.inputs), ("out", of_outputs, context.outputs)):
        for one in given:
            attr = context.attr(command, one.index)[1]
            attr.pass_through = 0
            mem = _mem(context, attr.size_with_stride)
            mems.append(mem)
            if side == "in" and mem:
                facts = ctypes.cast(mem, ctypes.POINTER(TensorMem)).contents
                tell(f"create_mem({attr.size_with_stride}) size={facts.size} flags={facts.flags:#x} off={facts.offset} "
                     f"phys{'!' if facts.phys_addr else '='}=0 fd{'>=' if facts.fd >= 0 else '<'}0")  # fmt: skip
            code = _bind(context, mem, attr)
            tell(f"set_io_mem {side}{attr.index} native={int(native)} type={TYPES[attr.type]} fmt={FORMATS[attr.fmt]} "
                 f"sws={attr.size_with_stride} rc={code}")  # fmt: skip
    tell(f"zero-copy run rc={context.run()}")
    attributes(context, tell)
    for mode in range(4):
        tell(f"mem_sync({mode}) rc={context.runtime.mem_sync(context.handle, mems[0], mode)}")
    tell(f"inputs_set after set_io_mem rc={context.set(context.arrays(0))}")
    tell(f"outputs_get after set_io_mem rc={context.get(context.slots())}")
    codes = [context.runtime.destroy_mem(context.handle, mem) for mem in mems if mem]
    tell(f"destroy_mem rc={codes[0]}")
    tell(f"run after destroy_mem rc={context.run()}")


def _io_type(open_: Open, side: str, type_: str, fmt: str, tell: Teller) -> None:
    context = open_(tell)
    attr = (context.inputs if side == "in" else context.outputs)[0]
    if side == "out":
        context.set(context.arrays(0))
    room = max(attr.size_with_stride if attr.size_with_stride < 1 << 31 else 0, attr.n_elems * 8) * 8
    mem = _mem(context, room)
    attr.type, attr.fmt, attr.pass_through = TYPES.index(type_), FORMATS.index(fmt), 0
    bound = _bind(context, mem, attr)
    tell(f"set_io_mem {side}0 as {type_} {fmt} rc={bound} run rc={context.run()}")


def _small_memory(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    for side, attr in (("in", context.inputs[0]), ("out", context.outputs[0])):
        small = attr.size_with_stride // 2 + 1
        tell(f"set_io_mem {side} too small rc={_bind(context, _mem(context, small), attr)}")
    tell(f"create_mem(0) -> {'memory' if _mem(context, 0) else 'null'}")
    tell(f"set_io_mem null rc={_bind(context, None, context.inputs[0])}")


def _duplicates(open_: Open, tell: Teller) -> None:
    parent = open_(tell)
    runtime, handle, again = parent.runtime, c_uint64(parent.handle), c_uint64()
    first = c_uint64()
    tell(f"dup_context rc={runtime.dup_context(byref(handle), byref(first))}")
    items = parent.arrays(0)
    tell(f"dup inputs_set rc={runtime.inputs_set(first, len(parent.inputs), items)}")
    tell(f"dup run rc={runtime.run(first, None)}")
    sizes = MemSize()
    code = runtime.query(first, Query.MEM_SIZE, byref(sizes), sizeof(sizes))
    tell(f"dup MEM_SIZE rc={code} {sizes.total_weight_size} {sizes.total_internal_size} "
         f"{sizes.total_dma_allocated_size}")  # fmt: skip
    tell(f"dup of dup rc={runtime.dup_context(byref(first), byref(again))}")
    tell(f"dup set_core_mask(2) rc={runtime.set_core_mask(first, 2)}")
    tell(f"destroy parent rc={runtime.destroy(handle)}")
    tell(f"dup run after parent destroyed rc={runtime.run(first, None)}")
    tell(f"destroy dup rc={runtime.destroy(first)}")


def _after_destroy(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    tell(f"destroy rc={context.runtime.destroy(context.handle)}")
    tell(f"query after destroy rc={context.attr(Query.INPUT_ATTR, 0)[0]}")


def _no_shapes(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    code = context.runtime.set_input_shapes(context.handle, len(context.inputs), byref(context.inputs[0]))
    tell(f"set_input_shapes on a static model rc={code}")


def _set_shape(context: RawContext, attrs: Sequence[TensorAttr]) -> int:
    array = (TensorAttr * len(attrs))(*attrs)
    return int(context.runtime.set_input_shapes(context.handle, len(attrs), array))


def _shapes(open_: Open, tell: Teller) -> None:
    from ort_rknn.devices.rknnrt.abi import InputRange

    context = open_(tell)
    spans = []
    for attr in context.inputs:
        span = InputRange(index=attr.index)
        context.runtime.query(context.handle, Query.INPUT_DYNAMIC_RANGE, byref(span), sizeof(span))
        spans.append(span)
    for number in (1, 0):
        for attr, span in zip(context.inputs, spans, strict=True):
            attr.dims[: span.n_dims] = span.dyn_range[number][: span.n_dims]
        tell(f"set_input_shapes #{number} rc={_set_shape(context, context.inputs)}")
        attributes(context, tell)
        current = [context.attr(Query.CURRENT_INPUT_ATTR, attr.index)[1] for attr in context.inputs]
        items = context.arrays(0)
        for item, attr in zip(items, current, strict=False):
            item.size = attr.n_elems * 4
        tell(f"inputs_set rc={context.set(items)}")
        tell(f"run rc={context.run()}")
        slots = context.slots(preallocated=False)
        code = context.get(slots)
        tell(f"outputs_get rc={code} size={slots[0].size}")
    context.inputs[0].dims[1] = 5
    tell(f"set_input_shapes unlisted rc={_set_shape(context, context.inputs)}")


def _init(runtime: RawRuntime, model: bytes | None, size: int, flag: int = 0) -> int:
    handle = c_uint64()
    code = int(runtime.init(byref(handle), model, size, flag, None))
    if not code and handle.value:
        runtime.destroy(handle)
    return code


def _init_errors(runtime: RawRuntime, model: bytes, tell: Teller) -> None:
    half = model[: len(model) // 2]
    tell(f"init truncated rc={_init(runtime, half, len(half))}")
    tell(f"init 32 bytes rc={_init(runtime, model[:32], 32)}")
    tell(f"init bad magic rc={_init(runtime, b'XKNN' + model[4:], len(model))}")
    newer = bytearray(model)
    struct.pack_into("<Q", newer, HEADER_VERSION, 7)
    tell(f"init model version 7 rc={_init(runtime, bytes(newer), len(newer))}")
    tell(f"init missing path rc={_init(runtime, b'/nonexistent/model.rknn', 0)}")
    with tempfile.NamedTemporaryFile(suffix=".rknn") as file:
        file.write(model)
        file.flush()
        tell(f"init path size 0 rc={_init(runtime, file.name.encode(), 0)}")
    tell(f"init null rc={_init(runtime, None, 0)}")


def _init_flags(runtime: RawRuntime, model: bytes, tell: Teller) -> None:
    for flag in FLAGS:
        tell(f"init flag {flag:#x} rc={_init(runtime, model, len(model), flag)}")
