"""The emulated runtime itself, by plain ctypes: its arithmetic, its checks, its faults."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from ctypes import byref, c_uint64, sizeof
from typing import Any

import numpy as np
import pytest

from ort_rknn.devices.rknnrt.abi import (
    Custom,
    Format,
    InitExtend,
    InOutNum,
    Input,
    InputRange,
    Output,
    Query,
    TensorAttr,
    TensorMem,
    TensorType,
    prototypes,
)
from tests.helpers.emulator import REAL, Emulator, Model, Tensor, real_path

SMALL = Model((Tensor("x", "float16", (1, 2, 3, 4), "nhwc"),), (Tensor("y", "float16", (1, 5)),))


class Bare:
    """A context by the bare C calls."""

    def __init__(self, library: Any, model: bytes, flag: int = 0) -> None:
        self.lib = library
        handle = c_uint64()
        self.code = library.rknn_init(byref(handle), model, len(model), flag, byref(InitExtend()))
        self.handle = handle.value

    def set(self, array: np.ndarray, fmt: int, *, index: int = 0, type_: int = TensorType.FLOAT32) -> int:
        data = np.ascontiguousarray(array)
        item = Input(index=index, buf=data.ctypes.data, size=data.nbytes, type=type_, fmt=fmt)
        return int(self.lib.rknn_inputs_set(self.handle, 1, byref(item)))

    def get(
        self, shape: tuple[int, ...], index: int = 0, dtype: str = "float32", want_float: bool = True
    ) -> np.ndarray:
        out = np.empty(shape, dtype)
        slot = Output(want_float=want_float, is_prealloc=1, index=index, buf=out.ctypes.data, size=out.nbytes)
        assert self.lib.rknn_outputs_get(self.handle, 1, byref(slot), None) == 0
        return out

    def attr(self, command: Query, index: int = 0) -> TensorAttr:
        attr = TensorAttr(index=index)
        assert self.lib.rknn_query(self.handle, command, byref(attr), sizeof(attr)) == 0
        return attr


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    emulator = Emulator()
    emulator.reset()
    yield emulator
    emulator.reset()


@pytest.fixture
def lib(emulator: Emulator) -> Any:
    library = ctypes.CDLL(str(emulator.path))
    for name, (result, arguments) in prototypes().items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@pytest.fixture
def bare(lib: Any) -> Iterator[Bare]:
    bare = Bare(lib, SMALL.data())
    yield bare
    lib.rknn_destroy(bare.handle)


X = np.random.default_rng(1).standard_normal((1, 2, 3, 4)).astype(np.float32)
XT = X.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("light", [0, 1])
def test_arithmetic_is_the_python_twin_s(emulator: Emulator, bare: Bare, light: int) -> None:
    emulator.configure(light=light)
    assert bare.set(XT, Format.NHWC) == 0
    assert bare.lib.rknn_run(bare.handle, None) == 0
    np.testing.assert_array_equal(bare.get((1, 5)), SMALL.answer([X], light=bool(light))[0])
    native = bare.get((1, 5), dtype="float16", want_float=False)
    np.testing.assert_array_equal(native, SMALL.answer([X], native=True, light=bool(light))[0])


def test_every_kind_of_wrong_input_is_seen(bare: Bare) -> None:
    right = SMALL.answer([X])[0]
    swapped = X.copy()
    swapped[0, 0, 0, :2] = X[0, 0, 0, 1::-1]
    wrong = [X.transpose(0, 1, 3, 2), swapped, X * np.float32(1.01), np.zeros_like(X), -X]
    answers = [right, *(SMALL.answer([array.reshape(X.shape)])[0] for array in wrong)]
    assert len({answer.tobytes() for answer in answers}) == len(answers)
    bare.set(X.reshape(1, 3, 4, 2), Format.NHWC)  # NCHW bytes said to be NHWC
    bare.lib.rknn_run(bare.handle, None)
    assert not np.array_equal(bare.get((1, 5)), right)


def test_integers_beyond_float32(lib: Any) -> None:
    model = Model((Tensor("a", "int64", (4,)),), (Tensor("n", "int64", (6,)), Tensor("b", "bool", (6,))))
    bare = Bare(lib, model.data())
    feed = np.array([1, -1, 1 << 40, -(1 << 40)])
    assert bare.set(feed, Format.UNDEFINED, type_=TensorType.INT64) == 0
    lib.rknn_run(bare.handle, None)
    n, b = model.answer([feed], native=True)
    np.testing.assert_array_equal(bare.get((6,), dtype="int64", want_float=False), n)
    np.testing.assert_array_equal(bare.get((6,), 1, dtype="bool", want_float=False), b)
    assert not np.array_equal(bare.get((6,)).astype(np.int64), n), "want_float must lose something"
    lib.rknn_destroy(bare.handle)


@pytest.mark.parametrize("name", REAL)
def test_real_files(lib: Any, name: str) -> None:
    model = REAL[name]
    handle = c_uint64()
    path = str(real_path(name)).encode()
    assert lib.rknn_init(byref(handle), path, 0, 0, None) == 0
    counts = InOutNum()
    assert lib.rknn_query(handle, Query.IN_OUT_NUM, byref(counts), sizeof(counts)) == 0
    assert (counts.n_input, counts.n_output) == (len(model.inputs), len(model.outputs))
    for command, tensors in ((Query.INPUT_ATTR, model.inputs), (Query.OUTPUT_ATTR, model.outputs)):
        for index, tensor in enumerate(tensors):
            attr = TensorAttr(index=index)
            assert lib.rknn_query(handle, command, byref(attr), sizeof(attr)) == 0
            shape = tuple(tensor.shape[axis] for axis in (0, 2, 3, 1)) if tensor.layout == "nhwc" else tensor.shape
            assert (attr.name.decode(), tuple(attr.dims[: attr.n_dims])) == (tensor.name, shape)
            assert TensorType(attr.type).name.lower() == tensor.dtype
    custom = Custom()
    assert lib.rknn_query(handle, Query.CUSTOM_STRING, byref(custom), sizeof(custom)) == 0
    assert custom.string.decode() == model.custom
    lib.rknn_destroy(handle)


def test_int8_file_has_scales(lib: Any) -> None:
    bare = Bare(lib, real_path("image_int8_rk3588").read_bytes())
    assert bare.code == 0
    attr = bare.attr(Query.INPUT_ATTR)
    assert attr.type == TensorType.INT8
    assert attr.scale == pytest.approx((2.4317 + 1.9978) / 255, rel=1e-3)
    lib.rknn_destroy(bare.handle)


@pytest.mark.parametrize("cut", [0, 3, 40, 100, 5000, 20000])
def test_damaged_files_are_refused(lib: Any, cut: int) -> None:
    assert Bare(lib, real_path("image_fp16_rk3588").read_bytes()[:cut] or b"x").code < 0
    assert Bare(lib, b"RKNN" + b"\xff" * 200).code < 0


def test_model_version_and_target_are_checked(emulator: Emulator, lib: Any) -> None:
    emulator.configure(max_version=5)
    assert Bare(lib, SMALL.data()).code == -6
    emulator.configure(max_version=0, target="rk3566")
    assert Bare(lib, SMALL.data()).code == -6


def test_cores_are_exclusive_resources(emulator: Emulator, lib: Any) -> None:
    emulator.configure(latency_us=60_000)
    contexts = [Bare(lib, SMALL.data()) for _ in range(4)]
    for bare, mask in zip(contexts, (1, 2, 4, 4), strict=True):
        assert lib.rknn_set_core_mask(bare.handle, mask) == 0
        bare.set(XT, Format.NHWC)
    begun = time.monotonic()
    threads = [threading.Thread(target=lib.rknn_run, args=(bare.handle, None)) for bare in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    assert [emulator.count(f"core{core}_runs") for core in range(3)] == [1, 1, 2]
    for bare in contexts:
        lib.rknn_destroy(bare.handle)
    assert 0.12 <= took < 0.22, "two jobs on one core, the others beside; all after one another: 0.24 s"


def test_core_masks(emulator: Emulator, bare: Bare) -> None:
    emulator.configure(cores=2)
    assert [bare.lib.rknn_set_core_mask(bare.handle, mask) for mask in (4, 0xFFFF)] == [-1, -1]
    assert bare.lib.rknn_set_core_mask(bare.handle, 3) == 0
    emulator.configure(cores=1)
    assert bare.lib.rknn_set_core_mask(bare.handle, 1) == -13


def test_faults_and_counters(emulator: Emulator, bare: Bare) -> None:
    emulator.configure(fault="rknn_run@2=-2;rknn_inputs_set@1x2=-8")
    assert [bare.set(XT, Format.NHWC) for _ in range(3)] == [-8, -8, 0]
    assert [bare.lib.rknn_run(bare.handle, None) for _ in range(3)] == [0, -2, 0]
    assert emulator.count("rknn_run") == 3
    assert not emulator.misuses()


def test_hang_and_release(emulator: Emulator, bare: Bare) -> None:
    emulator.configure(fault="rknn_run@1=hang")
    bare.set(XT, Format.NHWC)
    thread = threading.Thread(target=bare.lib.rknn_run, args=(bare.handle, None))
    thread.start()
    while not emulator.count("hanging"):
        time.sleep(0.001)
    bare.set(XT, Format.NHWC)
    emulator.release_hangs()
    thread.join()
    assert emulator.misuses() == {"concurrent": 1}


def test_misuse_is_counted(emulator: Emulator, lib: Any) -> None:
    bare = Bare(lib, SMALL.data())
    bare.get((1, 5))
    lib.rknn_destroy(bare.handle)
    assert lib.rknn_destroy(bare.handle) == -7
    assert emulator.misuses() == {"dead_context": 1, "not_run": 1}


def test_duplicates_share_the_weights(emulator: Emulator, lib: Any) -> None:
    before = emulator.count("dma_bytes")
    bare = Bare(lib, Model(SMALL.inputs, SMALL.outputs, padding=100_000).data())
    once = emulator.count("dma_bytes")
    source, copy = c_uint64(bare.handle), c_uint64()
    assert lib.rknn_dup_context(byref(source), byref(copy)) == 0
    assert emulator.count("dma_bytes") == once > before + 100_000
    lib.rknn_destroy(bare.handle)
    assert emulator.count("dma_bytes") == once
    lib.rknn_destroy(copy)
    assert emulator.count("dma_bytes") == before


def test_zero_copy(emulator: Emulator, bare: Bare) -> None:
    lib = bare.lib
    given, answer = bare.attr(Query.INPUT_ATTR), bare.attr(Query.OUTPUT_ATTR)
    given.type, given.pass_through = TensorType.FLOAT16, 0
    mems = [lib.rknn_create_mem(bare.handle, attr.size) for attr in (given, answer)]
    half = X.transpose(0, 2, 3, 1).astype(np.float16)
    ctypes.memmove(mems[0].contents.virt_addr, half.tobytes(), half.nbytes)
    for mem, attr in zip(mems, (given, answer), strict=True):
        assert lib.rknn_set_io_mem(bare.handle, mem, byref(attr)) == 0
    assert lib.rknn_run(bare.handle, None) == 0
    got = np.frombuffer(ctypes.string_at(mems[1].contents.virt_addr, answer.size), np.float16)
    np.testing.assert_array_equal(got, SMALL.answer([X], native=True)[0].ravel())

    emulator.configure(latency_us=50000)
    thread = threading.Thread(target=lib.rknn_run, args=(bare.handle, None))
    thread.start()
    while emulator.count("rknn_run") < 2:
        time.sleep(0.001)
    time.sleep(0.005)
    ctypes.memset(mems[0].contents.virt_addr, 0, 8)
    thread.join()
    assert emulator.misuses() == {"changed_inputs": 1}
    assert isinstance(mems[0].contents, TensorMem)
    assert [lib.rknn_destroy_mem(bare.handle, mem) for mem in mems] == [0, 0]
    assert emulator.count("mems") == 0


def test_misuse_of_memory_is_counted(emulator: Emulator, lib: Any) -> None:
    bare = Bare(lib, SMALL.data())
    given = bare.attr(Query.INPUT_ATTR)
    mem = lib.rknn_create_mem(bare.handle, given.size)
    descriptor, base = mem.contents.fd, ctypes.c_void_p(mem.contents.virt_addr)
    part = lib.rknn_create_mem_from_fd(bare.handle, descriptor, base, given.size - 8, 8)
    assert lib.rknn_set_io_mem(bare.handle, part, byref(given)) != 0, "too small"
    assert lib.rknn_set_io_mem(bare.handle, mem, byref(given)) == 0
    emulator.configure(fault="rknn_run@1=hang")
    thread = threading.Thread(target=lib.rknn_run, args=(bare.handle, None))
    thread.start()
    while not emulator.count("hanging"):
        time.sleep(0.001)
    assert lib.rknn_destroy_mem(bare.handle, mem) == 0
    emulator.release_hangs()
    thread.join()
    assert emulator.misuses() == {"busy_mem": 1}
    assert lib.rknn_destroy_mem(bare.handle, mem) != 0
    assert lib.rknn_mem_sync(bare.handle, mem, 1) != 0
    assert emulator.misuses() == {"busy_mem": 1, "dead_mem": 2}
    lib.rknn_destroy(bare.handle)
    assert emulator.misuses()["left_mem"] == 1
    lib.rknn_destroy_mem(bare.handle, part)  # the test's own leak


def test_weights_that_are_lent_must_stay(emulator: Emulator, lib: Any) -> None:
    before = emulator.count("dma_bytes")
    owner = Bare(lib, SMALL.data())
    loaded = emulator.count("dma_bytes")
    borrower, flag = c_uint64(), 0x20
    data = SMALL.data()
    assert lib.rknn_init(byref(borrower), data, len(data), flag, byref(InitExtend())) != 0, "whose?"
    assert lib.rknn_init(byref(borrower), data, len(data), flag, byref(InitExtend(ctx=owner.handle))) == 0
    assert emulator.count("init_flags") == flag
    assert emulator.count("dma_bytes") == loaded
    lib.rknn_destroy(owner.handle)
    assert emulator.misuses() == {"dead_context": 1, "lent_weights": 1}
    lib.rknn_destroy(borrower)
    assert emulator.count("dma_bytes") == before


def test_copies_are_counted(emulator: Emulator, bare: Bare) -> None:
    bare.set(XT, Format.NHWC)
    assert bare.lib.rknn_run(bare.handle, None) == 0
    bare.get((1, 5))
    assert (emulator.count("copied_in"), emulator.count("copied_out")) == (X.nbytes, 20)


def test_dynamic_shapes(lib: Any) -> None:
    text = b"RKNNEMU 1\ninput x float16 1,2,3,4|1,2,6,8 nhwc\noutput y float16 1,3,4|1,6,8\n" + b"\0" * 64
    bare = Bare(lib, text)
    span = InputRange(index=0)
    assert lib.rknn_query(bare.handle, Query.INPUT_DYNAMIC_RANGE, byref(span), sizeof(span)) == 0
    assert [list(span.dyn_range[i][:4]) for i in range(span.shape_number)] == [[1, 3, 4, 2], [1, 6, 8, 2]]
    attr = bare.attr(Query.INPUT_ATTR)
    attr.dims[1], attr.dims[2] = 6, 8
    assert lib.rknn_set_input_shapes(bare.handle, 1, byref(attr)) == 0
    assert list(bare.attr(Query.CURRENT_OUTPUT_ATTR).dims[:3]) == [1, 6, 8]
    attr.dims[1] = 7
    assert lib.rknn_set_input_shapes(bare.handle, 1, byref(attr)) == -1
    lib.rknn_destroy(bare.handle)
