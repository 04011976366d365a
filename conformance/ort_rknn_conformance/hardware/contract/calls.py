"""The questions that ``ort-rknn board-test --contract`` asks of a runtime, about queries, inputs, runs and outputs.

The names of sections and the form of the answers are those of the record of librknnrt 1.6.0 that the project keeps, so
that any runtime can be laid beside it. Most of the questions are mistakes on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ctypes import byref, create_string_buffer, sizeof
from functools import partial

from ort_rknn.devices.rknnrt.abi import (
    Custom,
    InputRange,
    MemSize,
    PerfDetail,
    PerfRun,
    Query,
    SdkVersion,
    TensorAttr,
)
from ort_rknn_conformance.hardware.contract.raw_runtime import (
    ELEMENT_BYTES,
    FORMATS,
    TYPES,
    RawContext,
    RawRuntime,
    describe,
)
from ort_rknn_conformance.hardware.contract.sections import Teller

__all__ = ["Ask", "Open", "attributes", "mask_name", "opened", "questions"]

Open = Callable[[Teller], RawContext]
Ask = Callable[[Teller], None]

ATTRIBUTES = (
    ("INPUT_ATTR", Query.INPUT_ATTR, True),
    ("NATIVE_INPUT", Query.NATIVE_INPUT_ATTR, True),
    ("NATIVE_NHWC_INPUT", Query.NATIVE_NHWC_INPUT_ATTR, True),
    ("OUTPUT_ATTR", Query.OUTPUT_ATTR, False),
    ("NATIVE_OUTPUT", Query.NATIVE_OUTPUT_ATTR, False),
    ("NATIVE_NHWC_OUTPUT", Query.NATIVE_NHWC_OUTPUT_ATTR, False),
    ("CUR_INPUT", Query.CURRENT_INPUT_ATTR, True),
    ("CUR_NATIVE_INPUT", Query.CURRENT_NATIVE_INPUT_ATTR, True),
    ("CUR_OUTPUT", Query.CURRENT_OUTPUT_ATTR, False),
    ("CUR_NATIVE_OUTPUT", Query.CURRENT_NATIVE_OUTPUT_ATTR, False),
)
MASKS = (0, 1, 2, 4, 3, 7, 6, 5, 0xFFFF, 8, 0xFFFFFFFF)
GIVEN = TYPES[:10]


def opened(runtime: RawRuntime, model: bytes, tell: Teller) -> RawContext:
    """Open the model; what the runtime logs meanwhile belongs to no question."""
    context = RawContext(runtime, model)
    tell.skip()
    return context


def mask_name(mask: int) -> str:
    """A core mask as the answers spell it."""
    return hex(mask) if mask else "0"


def attributes(context: RawContext, tell: Teller) -> None:
    """Ask for all attributes of all inputs and outputs."""
    for label, command, of_inputs in ATTRIBUTES:
        for attr in context.inputs if of_inputs else context.outputs:
            code, found = context.attr(command, attr.index)
            tell(f"{label:<22} idx={attr.index} rc={code}" if code else describe(label, found))


def questions(runtime: RawRuntime, model: bytes) -> Iterator[tuple[str, Ask]]:
    """Sections by name, in the order of the record."""
    open_: Open = partial(opened, runtime, model)
    yield "queries", partial(_queries, open_)
    yield "masks", partial(_masks, open_)
    yield "before a run", partial(_before_run, open_)
    yield "get before run", partial(_get_before_run, open_)
    yield "run before set", partial(_run_before_set, open_)
    for type_ in GIVEN:
        yield type_, partial(_typed, open_, type_)
    for fmt in FORMATS:
        yield fmt, partial(_laid_out, open_, fmt)
    for type_ in GIVEN[:4]:
        yield "pass", partial(_passed_through, open_, type_)
    for name in ("size-4", "size+4", "size 0", "index 9", "n+1", "n=0", "n-1", "buf null", "null arr"):
        yield name, partial(_mistaken, open_, name)
    yield "cycle", partial(_cycle, open_)
    yield "run twice get once", partial(_get_twice, open_)
    yield "prealloc", partial(_preallocated, open_)


def _queries(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    query, handle = context.runtime.query, context.handle
    tell("rknn_init rc=0")
    version = SdkVersion()
    code = query(handle, Query.SDK_VERSION, byref(version), sizeof(version))
    tell(f"SDK rc={code} api='{version.api_version.decode()}' drv='{version.drv_version.decode()}'")
    tell(f"IN_OUT rc=0 {len(context.inputs)} {len(context.outputs)}")
    attributes(context, tell)
    for size in (24, 112):
        room = create_string_buffer(max(size, sizeof(MemSize)))
        code = query(handle, Query.MEM_SIZE, room, size)
        sizes = MemSize.from_buffer(room)
        tell(f"MEM_SIZE({size}) rc={code} {sizes.total_weight_size} {sizes.total_internal_size} "
             f"{sizes.total_dma_allocated_size}")  # fmt: skip
    for size in (20, 24, 28):
        if not query(handle, Query.MEM_SIZE, create_string_buffer(sizeof(MemSize)), size):
            tell(f"  MEM_SIZE accepts size {size}")
    for size in (372, 376, 380):
        if not query(handle, Query.INPUT_ATTR, create_string_buffer(512), size):
            tell(f"  INPUT_ATTR accepts size {size}")
    custom = Custom()
    code = query(handle, Query.CUSTOM_STRING, byref(custom), sizeof(custom))
    tell(f"CUSTOM_STRING rc={code} '{custom.string.decode(errors='replace')}'")
    for attr in context.inputs:
        span = InputRange(index=attr.index)
        code = query(handle, Query.INPUT_DYNAMIC_RANGE, byref(span), sizeof(span))
        shapes = ["".join(f"{dim}," for dim in row[: span.n_dims]) for row in span.dyn_range[: span.shape_number]]
        listed = "".join(f" [{shape}]" for shape in shapes)
        tell(f"DYN_RANGE in{attr.index} rc={code} n={span.shape_number} nd={span.n_dims} fmt={span.fmt}:{listed}")
    probe = TensorAttr(index=99)
    tell(f"query index 99 rc={query(handle, Query.INPUT_ATTR, byref(probe), sizeof(probe))}")
    probe = TensorAttr()
    tell(f"query cmd 99 rc={query(handle, 99, byref(probe), sizeof(probe))}")
    tell(f"query size 4 rc={query(handle, Query.INPUT_ATTR, byref(probe), 4)}")
    tell(f"query null rc={query(handle, Query.INPUT_ATTR, None, sizeof(probe))}")
    tell(f"query ctx 0 rc={query(0, Query.INPUT_ATTR, byref(probe), sizeof(probe))}")


def _masks(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    for mask in MASKS:
        tell(f"set_core_mask({mask_name(mask)}) rc={context.runtime.set_core_mask(context.handle, mask)}")
    for number in (2, 0):
        tell(f"set_batch_core_num({number}) rc={context.runtime.set_batch_core_num(context.handle, number)}")


def _before_run(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    took, table = PerfRun(), PerfDetail()
    code = context.runtime.query(context.handle, Query.PERF_RUN, byref(took), sizeof(took))
    tell(f"PERF_RUN before run rc={code} {took.run_duration}")
    code = context.runtime.query(context.handle, Query.PERF_DETAIL, byref(table), sizeof(table))
    tell(f"PERF_DETAIL before run rc={code} ptr={'set' if table.perf_data else 'null'}")


def _get_before_run(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    slots = context.slots(preallocated=False)
    code = context.get(slots)
    tell(f"outputs_get before run rc={code} size0={slots[0].size}")


def _run_before_set(open_: Open, tell: Teller) -> None:
    tell(f"run before inputs_set rc={open_(tell).run()}")


def _typed(open_: Open, type_: str, tell: Teller) -> None:
    context = open_(tell)
    tell(f"inputs_set type={type_} exact size rc={context.set(context.arrays(TYPES.index(type_)))}")


def _laid_out(open_: Open, fmt: str, tell: Teller) -> None:
    context = open_(tell)
    tell(f"inputs_set f32 fmt={fmt} rc={context.set(context.arrays(0, fmt=FORMATS.index(fmt)))}")


def _passed_through(open_: Open, type_: str, tell: Teller) -> None:
    context = open_(tell)
    items = context.arrays(TYPES.index(type_), pass_through=True)
    tell(f"inputs_set pass_through type={type_} size=sws rc={context.set(items)}")
    items[0].size -= 1
    tell(f"inputs_set pass_through sws-1 rc={context.set(items)}")


def _mistaken(open_: Open, name: str, tell: Teller) -> None:
    context = open_(tell)
    items = context.arrays(0)
    count = len(context.inputs)
    if name.startswith("size"):
        items[0].size = 0 if name == "size 0" else items[0].size + int(name[4:])
    elif name == "index 9":
        items[0].index = 9
    elif name == "buf null":
        items[0].buf = None
    given = {"n+1": count + 1, "n=0": 0, "n-1": count - 1}.get(name, count)
    tell(f"inputs_set {name} rc={context.set(None if name == 'null arr' else items, given)}")
    if name == "n-1":
        tell(f"run after n-1 rc={context.run()}")


def _cycle(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    tell(f"inputs_set ok rc={context.set(context.arrays(0))}")
    for _ in range(3):
        tell(f"run rc={context.run()}")
    took, table = PerfRun(), PerfDetail()
    code = context.runtime.query(context.handle, Query.PERF_RUN, byref(took), sizeof(took))
    tell(f"PERF_RUN rc={code} {took.run_duration} us")
    code = context.runtime.query(context.handle, Query.PERF_DETAIL, byref(table), sizeof(table))
    tell(f"PERF_DETAIL rc={code} len={table.data_len}")
    for want_float in (1, 0):
        slots = context.slots(want_float=bool(want_float), preallocated=False)
        code = context.get(slots)
        sizes = " ".join(
            f"size{i}={slots[i].size} buf={'set' if slots[i].buf else 'null'}" for i in range(len(context.outputs))
        )
        tell(f"outputs_get want_float={want_float} rc={code} {sizes}")
        code = context.release(slots)
        tell(f"outputs_release rc={code} buf={'kept' if slots[0].buf else 'null'}")
    tell(f"outputs_release again rc={context.release(slots)}")


def _get_twice(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    context.set(context.arrays(0))
    context.run()
    first, second = (context.slots(preallocated=False) for _ in range(2))
    context.get(first)
    code = context.get(second)
    tell(f"outputs_get twice without release rc={code} same buffer={int(first[0].buf == second[0].buf)}")


def _preallocated(open_: Open, tell: Teller) -> None:
    context = open_(tell)
    context.set(context.arrays(0))
    context.run()
    count = len(context.outputs)
    tell(f"outputs_get prealloc rc={context.get(context.slots())}")
    for less in (4, -4):
        slots = context.slots()
        slots[0].size -= less
        tell(f"outputs_get prealloc size{-less:+d} rc={context.get(slots)}")
    tell(f"outputs_get n+1 rc={context.get(context.slots(), count + 1)}")
    tell(f"outputs_get n=0 rc={context.get(context.slots(), 0)}")
    slots = context.slots(want_float=False)
    for item, attr in zip(slots, context.outputs, strict=False):  # BOOL for a runtime that does not know it has no size
        item.size = min(item.size, attr.n_elems * ELEMENT_BYTES[attr.type])
    tell(f"outputs_get prealloc native size rc={context.get(slots)}")
    slots = context.slots()
    slots[0].index = 7
    if count > 7:
        slots[0].size, slots[0].buf = slots[7].size, slots[7].buf
    tell(f"outputs_get index 7 rc={context.get(slots, 1)}")
