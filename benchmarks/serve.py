"""The server's cost a call beside bare gRPC and beside the local session, its cores' use, and its memory; in one run.

Bare gRPC is a server of the same protocol buffers that takes the input's bytes and gives a constant answer: what any
server of this protocol pays. "And run" is that server with onnxruntime's own session between the bytes and the answer:
a model that runs once in a while finds cold caches, and costs ten times what it does in a loop. All servers are
processes of their own; calls go to them in turns, round after round, and medians are printed. All are started several
times: how gRPC's threads and the system's scheduler settle is another at each start, and worth a third (of the floor:
0.33 to 0.50 ms). On a busy computer look at the floor: what is more than it grows there, too.

    python benchmarks/serve.py [--starts 3] [--rounds 3] [--calls 200] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2, service_pb2_grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import ort_rknn
from tests.helpers.emulator import build_emulator
from tests.helpers.serving import ServerProcess
from tests.helpers.slow_models import put_emulated

SIZES = {"150 kB": 224, "1.2 MB": 640}
MESSAGES: Any = service_pb2
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

FLOOR = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

sessions = {}
if sys.argv[1:]:
    from pathlib import Path
    import numpy as np
    import onnxruntime
    for path in sys.argv[1:]:
        sessions[Path(path).stem] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

class Calls(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ModelInfer(self, request, context):
        content = request.raw_input_contents[0]  # which copies it out of the message
        result = bytes(3)
        if sessions:
            tensor = request.inputs[0]
            array = np.frombuffer(content, np.uint8).reshape(tuple(tensor.shape))
            result = sessions[request.model_name].run(None, {tensor.name: array})[0].tobytes()
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="y", datatype="UINT8", shape=[3])
        answer.raw_output_contents.append(result)
        return answer

server = grpc.server(ThreadPoolExecutor(72), options=[("grpc.max_receive_message_length", -1)])
service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Calls(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""
ALONE = """
import sys, time
import numpy as np
import ort_rknn
session = ort_rknn.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.submit(None, {"x": np.zeros(session.get_inputs()[0].shape, np.uint8)}).result()
print("ready", flush=True)
time.sleep(600)
"""


def quick_model(side: int) -> bytes:
    """A picture in, three of its bytes out."""
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", "zero", "one"], ["a"]), helper.make_node("Reshape", ["a", "flat"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [side, side, 3])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [3])],
        [
            helper.make_tensor("zero", TensorProto.INT64, [2], [0, 0]),
            helper.make_tensor("one", TensorProto.INT64, [2], [1, 1]),
            helper.make_tensor("flat", TensorProto.INT64, [1], [3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used, by its own clock: /proc counts in hundredths of a second."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_mb(pid: int) -> float:
    """Memory that is the process's own share (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return float("nan")


@contextmanager
def python(program: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program in a process of its own, and the first line it says."""
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Caller:
    """Calls one server with one picture, and knows what it cost."""

    def __init__(self, port: int, pid: int, side: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._pid = pid
        self._request = MESSAGES.ModelInferRequest(model_name=f"side{side}")
        self._request.inputs.add(name="x", datatype="UINT8", shape=[side, side, 3])
        self._request.raw_input_contents.append(bytes(side * side * 3))
        self._call()

    def _call(self) -> None:
        self._stub.ModelInfer(self._request, timeout=60)

    def measure(self, calls: int) -> dict[str, float]:
        """Median latency, and the server's CPU time a call, in milliseconds."""
        before = cpu_seconds(self._pid)
        times = [timed(self._call) for _ in range(calls)]
        return {"latency": 1000 * statistics.median(times), "cpu": 1000 * (cpu_seconds(self._pid) - before) / calls}


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def costs(folder: Path, starts: int, rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Medians of several starts of all servers."""
    found = [cost(folder, rounds, calls) for _ in range(starts)]
    return {size: {key: statistics.median(one[size][key] for one in found) for key in found[0][size]} for size in SIZES}


def cost(folder: Path, rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Ours, the floor, the local session and the remote session, for each size."""
    found: dict[str, dict[str, float]] = {}
    models = sorted(map(str, folder.glob("*.onnx")))
    with (
        ServerProcess(folder) as ours,
        python(FLOOR) as (floor, port),
        python(FLOOR, *models) as (running, running_port),
    ):
        for size, side in SIZES.items():
            names = ("ours", "floor", "floor and run", "session", "local")
            rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            callers = {
                "ours": Caller(ours.port, ours.process.pid, side),
                "floor": Caller(int(port), floor.pid, side),
                "floor and run": Caller(int(running_port), running.pid, side),
            }
            feed = {"x": np.zeros((side, side, 3), np.uint8)}

            def run(session: Any, feed: Any = feed) -> object:
                return session.run(None, feed)

            remote = ort_rknn.InferenceSession(f"grpc://127.0.0.1:{ours.port}/side{side}")
            local = ort_rknn.InferenceSession(str(folder / f"side{side}.onnx"), providers=["CPUExecutionProvider"])
            for session in (remote, local):
                session.run(None, feed)
            for _ in range(rounds):
                for name, caller in callers.items():
                    rows[name].append(caller.measure(calls))
                for name, session in (("session", remote), ("local", local)):
                    times = [timed(partial(run, session)) for _ in range(calls)]
                    rows[name].append({"latency": 1000 * statistics.median(times)})
            remote.close()
            for name, values in rows.items():
                for key in values[0]:
                    found.setdefault(size, {})[f"{name} {key}"] = statistics.median(value[key] for value in values)
    return found


def busy(folder: Path, rounds: int, milliseconds: float = 5.0, cores: int = 3) -> tuple[float, float]:
    """Share of its cores' time that a server is kept working through one connection, and that of a session here."""
    emulated = {
        "ORT_RKNN_RUNTIME_LIBRARY": str(build_emulator()),
        "EMU_LATENCY_US": str(int(milliseconds * 1000)),
        "EMU_CORES": str(cores),
        "EMU_LIGHT": "1",
    }
    os.environ.update(emulated)
    there, here = [], []
    npu = [("RKNNExecutionProvider", {"device": "npu"}), "CPUExecutionProvider"]
    with (
        ServerProcess(folder, "--device", "npu", "--load", "two", environment=emulated) as server,
        ort_rknn.InferenceSession(f"grpc://127.0.0.1:{server.port}/two") as session,
        ort_rknn.InferenceSession(str(folder / "two.onnx"), providers=npu) as local,
    ):
        assert session.get_providers()[0] == local.get_providers()[0] == "RKNNExecutionProvider"
        ideal = 1000 * cores / milliseconds
        for _ in range(rounds):
            there.append(rate(session) / ideal)
            here.append(rate(local) / ideal)
    return statistics.median(there), statistics.median(here)


def rate(session: Any, seconds: float = 3.0) -> float:
    """Inferences a second of one session that maps a stream."""
    array = np.ones((3, 2), np.float32)
    begun = time.perf_counter()

    def feeds() -> Iterator[dict[str, Any]]:
        while time.perf_counter() < begun + seconds:
            yield {"A": array, "B": array}

    return sum(1 for _ in session.map(None, feeds())) / (time.perf_counter() - begun)


def memory(folder: Path) -> float:
    """Megabytes of a server above a process that has the same session alone."""
    array = np.zeros((640, 640, 3), np.uint8)
    with ServerProcess(folder) as server, python(ALONE, str(folder / "side640.onnx")) as (alone, _):
        with ort_rknn.InferenceSession(f"grpc://127.0.0.1:{server.port}/side640") as session:
            for _ in range(50):
                session.run(None, {"x": array})
        return memory_mb(server.process.pid) - memory_mb(alone.pid)


def beside(row: dict[str, float], what: str) -> tuple[str, str, str, str]:
    """Ours, the floor, the floor that runs the model, and the ratios beside their target."""
    ours, floor, running = row[f"ours {what}"], row[f"floor {what}"], row[f"floor and run {what}"]
    ratios = f"{ours / floor:.2f} x and {ours / running:.2f} x of 1.3"
    return f"{ours:.2f} ms", f"{floor:.2f} ms", f"{running:.2f} ms", ratios


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        quick = Path(place) / "quick"
        quick.mkdir()
        for side in SIZES.values():
            (quick / f"side{side}.onnx").write_bytes(quick_model(side))
        found = costs(quick, given.starts, given.rounds, given.calls)
        share, here = busy(put_emulated(Path(place) / "slow", "two"), given.rounds)
        more = memory(quick)
    table = Table(title=f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    for heading in ("what", "ours", "bare gRPC", "and run", "target"):
        table.add_column(heading)
    for size, row in found.items():
        table.add_row(
            f"{size}: server's CPU a call",
            *beside(row, "cpu"),
        )
        table.add_row(
            f"{size}: latency",
            *beside(row, "latency"),
        )
        table.add_row(f"{size}: latency of a session", f"{row['session latency']:.2f} ms", "", "", "")
        table.add_row(f"{size}: latency of the local run", f"{row['local latency']:.3f} ms", "", "", "")
    table.add_row(
        "three cores of 5 ms kept busy by one connection",
        f"{100 * share:.1f} % busy",
        f"{100 * here:.1f} % here",
        "",
        "97 %",
    )
    table.add_row("server's memory above the session's", f"{more:.0f} MB", "", "", "40 MB at most")
    Console().print(table)
    if given.json:
        given.json.write_text(
            json.dumps({"cost": found, "busy": share, "busy_here": here, "memory_mb": more}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
