"""The self-test: a bundled compiled model of two nodes on the device a session would take, against onnxruntime."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import onnxruntime

from ort_rknn.api.session import InferenceSession
from ort_rknn.opening.choose_device import choose
from ort_rknn.ort_conventions import RKNN_PROVIDER
from ort_rknn_conformance.doctor.bundled import CONVOLUTION_NAME, read_bundled
from ort_rknn_conformance.doctor.findings import Finding
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.extras import COMPLETE, EXTRA
from ort_rknn_converters.numerics.tensor_error import compare, tolerance
from ort_rknn_converters.targets import DEFAULT_TARGET
from ort_rknn_converters.util.log import logger

__all__ = ["self_test"]


_CURE = "the lines above say what is in the way; if they are all good, report it with ort-rknn doctor --json"


class _Reasons(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def self_test(device: Any = None) -> tuple[Finding, ...]:
    """Run it.

    Args:
        device: What a session takes as its device; what ``auto`` comes to when ``None``, else the simulator.

    Returns:
        Which device a session would take, and what the test came to.
    """
    choice = choose("auto") if device is None else choose(device)
    try:
        if choice.device is None:
            chosen = Finding("device", "bad", f"CPU: {choice.reason.split(';')[0]}", choice.reason.partition("; ")[2])
            if not COMPLETE:
                said = "not made: without an NPU the simulator stands in, and it needs onnx and onnx-ir"
                return chosen, Finding("self-test on the simulator", "note", said, EXTRA)
            return chosen, _run("simulator", DEFAULT_TARGET)
        chosen = Finding("device", "ok", f"{choice.device.name}, {choice.device.cores} cores, for {choice.target}")
        return chosen, _run(choice.device, choice.target)
    finally:
        if choice.device is not None:
            choice.device.close()


def _run(device: Any, target: str) -> Finding:
    name = getattr(device, "name", device)
    topic = f"self-test on {'the ' if name == 'simulator' else ''}{name}"
    try:
        model = read_bundled(CONVOLUTION_NAME, target)
    except FileNotFoundError:
        return Finding(topic, "note", f"no bundled model for {target}", "ort-rknn check MODEL --device simulator")
    feed = {"x": np.random.default_rng(0).normal(0, 1, (1, 8, 8, 8)).astype(np.float32)}
    (segment,) = CompiledModel.load(model).npu_steps
    if segment.onnx is None:
        return Finding(topic, "bad", "the bundled model lacks its ONNX", "install the package again")
    original = segment.onnx.read()
    (want,) = onnxruntime.InferenceSession(original, providers=["CPUExecutionProvider"]).run(None, feed)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    start = time.perf_counter()
    reasons = _Reasons()
    logger().addHandler(reasons)
    try:
        session = InferenceSession(model, options, providers=[RKNN_PROVIDER, "CPUExecutionProvider"], device=device)
        try:
            (got,) = session.run(None, feed)
            on_npu = session.plan.npu_nodes
        finally:
            session.close()
    except Exception as error:
        first = f"{type(error).__name__}: {error}".partition("\n")[0]
        # Without its device a compiled model cannot run at all; why there is none was only logged.
        return Finding(topic, "bad", "; ".join(reasons.said) or first, _CURE)
    finally:
        logger().removeHandler(reasons)
    seconds = time.perf_counter() - start
    off = compare(want, np.asarray(got)).rel_rms
    said = f"{on_npu} nodes, off by {off:.1e} (relative RMS), {seconds * 1000:.0f} ms with loading"
    if not off <= tolerance("fp16", False):
        return Finding(
            topic,
            "bad",
            f"wrong numbers: {said}",
            "driver and runtime library do not fit each other: take the newest of both; then report it with --json",
        )
    if not on_npu:
        return Finding(topic, "bad", f"it ran on the CPU: {said}", _CURE)
    return Finding(topic, "ok", said)
