"""Measures the same model in plain onnxruntime with the plugin, beside the session."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ort_rknn.bench.measure import Limit, Pass, Progress, sync_pass
from ort_rknn.ort_conventions import RKNN_PROVIDER

__all__ = ["PLUGIN_OPTIONS", "plugin_passes", "plugin_session"]

_REGISTERED = "ort-rknn bench"

PLUGIN_OPTIONS = (
    "target",
    "runtime_library",
    "priority",
    "sram",
    "share_sram",
    "init_flags",
    "schedule",
    "tp_mode",
    "threads_per_core",
    "performance_hint",
    "run_timeout_ms",
    "disable_dup_context",
    "half_inputs",
)
"""Provider options that the plugin has too."""


@contextmanager
def plugin_session(model: Path, options: Mapping[str, str]) -> Iterator[Any]:
    """A session of plain onnxruntime on the plugin's device; the plugin is unregistered at the end.

    Raises:
        DeviceUnavailable: This installation has no plugin, or it finds no NPU.
        Exception: Whatever onnxruntime says against the model.
    """
    import onnxruntime

    from ort_rknn.errors import DeviceUnavailable
    from ort_rknn.opening.choose_device import npu_problem
    from ort_rknn.plugin import get_library_path

    path = get_library_path()
    onnxruntime.register_execution_provider_library(_REGISTERED, path)
    try:
        # Others may have registered theirs; onnxruntime says whose a device is from 1.25 on.
        devices = [
            device
            for device in onnxruntime.get_ep_devices()
            if device.ep_name == RKNN_PROVIDER and device.ep_metadata.get("library_path", path) == path
        ][:1]
        if not devices:
            raise DeviceUnavailable(f"the plugin finds no NPU: {npu_problem() or 'it does not say why'}")
        settings = onnxruntime.SessionOptions()
        settings.add_provider_for_devices(devices, {key: options[key] for key in PLUGIN_OPTIONS if key in options})
        session = onnxruntime.InferenceSession(str(model), settings)
        yield session
        del session
    finally:
        onnxruntime.unregister_execution_provider_library(_REGISTERED)


def plugin_passes(session: Any, feed: Mapping[str, Any], limit: Limit, progress: Progress, jobs: int) -> list[Pass]:
    """One pass from one thread, and one from several where ``jobs`` says so."""
    session.run(None, feed)
    alone = sync_pass(session, feed, limit, progress)
    alone.api = "plugin"
    if jobs < 2:
        return [alone]
    return [alone, _threads_pass(session, feed, limit, jobs)]


def _threads_pass(session: Any, feed: Mapping[str, Any], limit: Limit, jobs: int) -> Pass:
    measured = Pass(f"plugin, {jobs} threads", jobs)
    lock = threading.Lock()
    begun = time.perf_counter()

    def work() -> None:
        while True:
            with lock:
                if limit.reached(measured.asked, time.perf_counter() - begun) or measured.hopeless:
                    return
                measured.asked += 1
            start = time.perf_counter()
            try:
                results = session.run(None, feed)
            except Exception as error:  # a failing inference is a result of the measurement
                with lock:
                    measured.note(error)
                continue
            with lock:
                measured.results = results
                measured.latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # no limit: each ends with the measurement, by the plugin's run_timeout_ms where it is set
    measured.seconds = time.perf_counter() - begun
    return measured
