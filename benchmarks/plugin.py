"""The plugin in plain onnxruntime, the package's sessions and bare C calls side by side, on the emulated runtime.

Run it as ``python benchmarks/plugin.py``. Only differences mean anything: the emulated runtime takes no time but
what it is told to. The promise: a run by the plugin takes at most 1.2 times the bare calls and what onnxruntime takes
for an empty node.
"""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import onnxruntime
from engine_cases import PICTURE, SMALL
from engine_rig import CORES, Rig, Work
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from ort_rknn.devices.rknnrt.native_calls import native_library
from ort_rknn_converters.onnx_file.blobs import FileBlob
from tests.helpers.plugin import emulated_sample, plugin_session, registered, shim_session

LATENCY_MS = 5.0
PADDING = 200_000_000
MOST = 1.2


FLAT = Work((1, 3 * 224 * 224), ((1, 1000),))
"""As many bytes as a picture."""


def lower_us(function: Callable[[], Any], rounds: int = 200, calls: int = 10) -> float:
    """Microseconds per call, the lower quartile of many short rounds: what others take away is in the upper half."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(calls):
            function()
        times.append((time.perf_counter() - begun) / calls)
    return 1e6 * quantiles(times, n=4)[0]


def empty(work: Work) -> Any:
    """A session of one node that does nothing but take and give tensors of these sizes."""
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, work.input),
        helper.make_tensor_value_info("r", TensorProto.FLOAT, work.outputs[0]),
    ]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, work.outputs[0])]
    graph = helper.make_graph([helper.make_node("Identity", ["r"], ["y"])], "g", given, made)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return onnxruntime.InferenceSession(model.SerializeToString())


def turn_us(work: Work) -> float:
    """Microseconds to bring a picture into the NPU's order as float16: the vendor's library does not do it."""
    if len(work.input) < 4:
        return 0.0
    native = native_library()
    assert native is not None
    array = work.feed()["x"]
    room = np.empty(array.size, np.uint16)
    arguments = array.ctypes.data, room.ctypes.data, work.input[1], work.input[2] * work.input[3]
    return lower_us(lambda: native.short.ort_rknn_interleave_half(*arguments))


def one_run(rig: Rig, work: Work, path: Path) -> dict[str, float]:
    """Microseconds of one segment."""
    work.compiled().save(path)
    feed, both = work.feed(), {**work.feed(), "r": np.zeros(work.outputs[0], np.float32)}
    bare, shim, plain, nothing = rig.bare(work), rig.session(work), plugin_session(path), empty(work)
    found = {
        "bare calls": turn_us(work) + lower_us(lambda: bare.infer(0)),
        "empty node": lower_us(lambda: nothing.run(None, both)),
        "plugin": lower_us(lambda: plain.run(None, feed)),
        "package": lower_us(lambda: shim.run(None, feed)),
    }
    bare.close()
    shim.close()
    return found


def mixed_run(path: Path, runtime: Path) -> dict[str, float]:
    """Microseconds of two segments and four nodes on the CPU."""
    emulated_sample().save(path)
    feed = {"x": np.zeros((1, 3, 8, 8), np.float32), "flag": np.array([True])}
    shim, plain = shim_session(path, runtime_library=str(runtime)), plugin_session(path)
    found = {"plugin": lower_us(lambda: plain.run(None, feed)), "package": lower_us(lambda: shim.run(None, feed))}
    shim.close()
    return found


def starts(path: Path, runtime: Path) -> dict[str, float]:
    """Milliseconds to make a session, everything imported."""

    def plain() -> None:
        plugin_session(path)

    def shim() -> None:
        shim_session(path, runtime_library=str(runtime)).close()

    return {name: lower_us(make, 8, 1) / 1000 for name, make in (("plugin", plain), ("package", shim))}


def threads_share(run: Callable[[], Any], seconds: float = 2.0) -> float:
    """Three threads' runs of 5 ms as a share of what three cores can do."""
    until, counts = time.perf_counter() + seconds, [0] * CORES

    def work(number: int) -> None:
        while time.perf_counter() < until:
            run()
            counts[number] += 1

    begun = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(CORES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / ((time.perf_counter() - begun) * CORES * 1000 / LATENCY_MS)


def cores(rig: Rig, path: Path) -> dict[str, float]:
    """What three threads get of three cores."""
    SMALL.compiled().save(path)
    rig.emulator.configure(latency_us=int(1000 * LATENCY_MS))
    feed, plain, shim = SMALL.feed(), plugin_session(path), rig.session(SMALL)
    found = {
        "plugin": threads_share(lambda: plain.run(None, feed)),
        "package": threads_share(lambda: shim.run(None, feed)),
    }
    shim.close()
    rig.emulator.configure(latency_us=0)
    return found


def _mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found[1]) / 1000 if found else 0.0


def memory(kind: str, path: str, small: str) -> None:
    """In a process of its own: what opening a model keeps and takes at most; one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        with registered(rig.emulator.path):

            def make(model: str) -> Any:
                return plugin_session(model) if kind == "plugin" else rig.session(Path(model))

            session = make(small)  # what is imported and allocated once is not the model's
            session.run(None, SMALL.feed())
            del session
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            before = _mb("VmRSS")
            session = make(path)
            session.run(None, SMALL.feed())
            print(json.dumps([_mb("VmRSS") - before, _mb("VmHWM") - before]))
            if kind == "package":
                session.close()
            del session


def memories(folder: Path) -> list[tuple[str, str, float, float]]:
    """Form, who, MB kept and at most, for 200 MB of code."""
    code = folder / "big.rknn"
    code.write_bytes(SMALL.model(PADDING).data())
    small = folder / "small.onnx"
    SMALL.compiled().save(small)
    rows = []
    for form, embed in (("embedded", True), ("beside", False)):
        model = folder / f"{form}.onnx"
        SMALL.compiled(FileBlob(str(code))).save(model, embed=embed)
        for kind in ("plugin", "package"):
            command = [sys.executable, __file__, "memory", kind, str(model), str(small)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            rows.append((form, kind, *json.loads(done.stdout.splitlines()[-1])))
        model.unlink()
    return rows


def main() -> int:
    """Measure and judge."""
    console = Console()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rig = Rig(folder)
        path = folder / "one.onnx"
        with registered(rig.emulator.path):
            table = Table("one run, microseconds", "bare calls", "empty node", "plugin", "limit", "package")
            rows = (("12 KB", SMALL), ("600 KB", FLAT), ("600 KB picture, turned", PICTURE))
            for title, work in rows:
                took = one_run(rig, work, path)
                limit = MOST * took["bare calls"] + took["empty node"]
                bad += took["plugin"] > limit
                values = (took["bare calls"], took["empty node"], took["plugin"], limit, took["package"])
                table.add_row(f"1 segment, {title}", *(f"{value:.1f}" for value in values))
            mixed = mixed_run(folder / "two.onnx", rig.emulator.path)
            table.add_row("2 segments, 4 CPU nodes", "", "", f"{mixed['plugin']:.1f}", "", f"{mixed['package']:.1f}")
            console.print(table)
            start, share = starts(folder / "two.onnx", rig.emulator.path), cores(rig, path)
            gc.collect()
        table = Table("", "plugin", "package")
        table.add_row("session start, ms", f"{start['plugin']:.2f}", f"{start['package']:.2f}")
        table.add_row("3 threads on 3 cores, share of ideal", f"{share['plugin']:.1%}", f"{share['package']:.1%}")
        console.print(table)
        table = Table("200 MB of code", "by", "kept, MB", "peak, MB")
        for form, kind, kept, peak in memories(folder):
            table.add_row(form, kind, f"{kept:.0f}", f"{peak:.0f}")
        console.print(table)
    console.print("within the limit" if not bad else "[red]over the limit[/red]")
    return bad


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        memory(*sys.argv[2:])
    else:
        sys.exit(main())
