"""Runtimes with habits of their own: what the vendor's documents leave open must not matter."""

from __future__ import annotations

import threading

from tests.helpers.emulator import Emulator, Model, Tensor
from tests.helpers.npu import feeds, npu, same, segment

INTEGERS = Model(
    (Tensor("ids", "int64", (3,)), Tensor("x", "float16", (1, 4))),
    (
        Tensor("n", "int64", (7,)),
        Tensor("i", "int32", (5,)),
        Tensor("b", "bool", (9,)),
        Tensor("y", "float16", (1, 10)),
        Tensor("q", "int8", (1, 6), "-", 0.5, 3),
    ),
)


def test_tensors_that_are_called_quantized_and_are_not(emulator: Emulator, kind: str) -> None:
    emulator.configure(affine=1)
    context = npu(emulator).open(code := segment(INTEGERS))
    given = feeds(code)
    right, native = INTEGERS.answer(given), INTEGERS.answer(given, native=True)
    same(context.run(given), [*native[:3], *right[3:]])
    context.close()


def test_outputs_in_the_runtime_s_own_memory(emulator: Emulator, kind: str) -> None:
    emulator.configure(own_outputs=1)
    context = npu(emulator).open(code := segment(INTEGERS))
    kept = []
    for seed in range(3):
        given = feeds(code, seed)
        right, native = INTEGERS.answer(given), INTEGERS.answer(given, native=True)
        kept.append((context.run(given), [*native[:3], *right[3:]]))
        same(context.run(given, [False, True, False, True, False])[1:2], native[1:2])
    for got, expected in kept:
        same(got, expected)
    context.close()


def test_a_context_in_use_is_not_destroyed(emulator: Emulator, kind: str) -> None:
    device = npu(emulator)
    context = device.open(code := segment(INTEGERS))
    given = feeds(code)
    emulator.configure(fault="rknn_run@1=hang")
    runs = emulator.count("rknn_run")
    thread = threading.Thread(target=context.run, args=(given,))
    thread.start()
    pause = threading.Event()
    while emulator.count("rknn_run") == runs:
        pause.wait(0.001)
    before = emulator.count("contexts")
    device.close()
    assert emulator.count("contexts") == before
    emulator.release_hangs()
    thread.join(10)
    assert not thread.is_alive()
    device.close()
    assert emulator.count("contexts") == before - 1
