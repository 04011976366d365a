"""Threads that open one model at once: it is compiled once and loaded once, and each session is its own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

import ort_rknn
from ort_rknn_converters.toolkit.compile import CompileRequest
from tests.helpers.emulator import Emulator
from tests.helpers.ort_models import model
from tests.helpers.toolkits.emulated import emulated_toolkit

PADDING = 200_000


def test_eight_threads_compile_and_load_one_model_once(emulator: Emulator, tmp_path: Path) -> None:
    options = {"device": "npu", "runtime_library": emulator.path, "target": "rk3588", "min_gain": 0}
    feed = {"X": np.ones((1, 2, 4, 4), np.float32)}
    sessions: list[ort_rknn.InferenceSession] = []
    compiled: list[CompileRequest] = []
    together = threading.Barrier(8)
    before = emulator.count("dma_bytes")

    def open_one() -> None:
        together.wait(20)
        sessions.append(ort_rknn.InferenceSession(model("mixed"), providers=[("RKNNExecutionProvider", options)]))

    with emulated_toolkit(tmp_path / "cache", padding=PADDING, seen=compiled):
        threads = [threading.Thread(target=open_one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(sessions) == 8
    assert len(compiled) == 1
    assert PADDING < emulator.count("dma_bytes") - before < 2 * PADDING
    [right, _] = sessions[0].run(None, feed)
    for session in sessions:
        for job in [session.submit(None, feed) for _ in range(4)]:
            np.testing.assert_array_equal(job.result(20)[0], right)
    assert emulator.count("dma_bytes") - before < 2 * PADDING, "further cores share them, too"
    for session in sessions:
        session.close()
    assert emulator.count("contexts") == 0
