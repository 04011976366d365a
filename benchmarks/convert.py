"""What a conversion costs: our whole command, verification included, against the bare toolkit; and how right it is.

``python -m benchmarks.convert`` takes time and memory of four models; ``--all`` converts every shaped model for rk3588,
rk3576 and rk3566 instead and prints the verification error and what stays on the CPU; ``--memory`` prints what a
machine must have to convert three well-known ones. Both sides of the comparison are whole processes, from start to
end, measured in turns; the bare one calls config, load, build and export.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

from benchmarks.models import DIMS, MODELS
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.convert import convert
from ort_rknn_converters.toolkit.setup.environment import PYTHON_VARIABLE, find_python
from ort_rknn_converters.toolkit.worker import stub_modules

COMPARED = ("resnet50", "yolov8n", "vit_tiny", "bert_mini")
WELL_KNOWN = ("mobilenetv2", "yolov8n", "resnet50")
TARGETS = ("rk3588", "rk3576", "rk3566")
TIME_LIMIT, MEMORY_LIMIT = 1.25, 1.05
BOUNDS = (
    "What ours does beyond the bare toolkit, in CPU time: 0.3 s of imports and 0.1 to 0.2 s of preparation before the"
    " toolkit has its model, of which its own imports hide 0.3 s; beside the build, the simulator, 0.1 to 0.5 s, and"
    " onnxruntime with its import, 0.1 to 0.4 s; and 0.1 to 0.2 s to judge the answers and write the model with its"
    " weights."
)
SAMPLE_S = 0.02

_BARE = """
import importlib.util, sys
model, target, rknn, standins = sys.argv[1:]
spec = importlib.util.spec_from_file_location("standins", standins)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.insert()
from rknn.api import RKNN
toolkit = RKNN(verbose=False)
steps = (
    lambda: toolkit.config(target_platform=target),
    lambda: toolkit.load_onnx(model=model),
    lambda: toolkit.build(do_quantization=False),
    lambda: toolkit.export_rknn(rknn),
)
sys.exit(any(step() != 0 for step in steps))
"""
_OURS = "import sys; from ort_rknn_converters.cli.convert import command; command(sys.argv[1:])"


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        seconds: From the start of the process to its end.
        cpu: Seconds of CPU of it and its children: what a machine that others use as well still shows right.
        largest: Peak resident size of its largest process, in MB.
        together: Peak of what all its processes held at once (shared pages counted once), in MB.
    """

    seconds: float
    cpu: float
    largest: float
    together: float

    def best(self, other: Cost) -> Cost:
        """The smaller of each: what other programs on the machine add is no part of the cost."""
        return Cost(*(min(pair) for pair in zip(self._all(), other._all(), strict=True)))

    def _all(self) -> tuple[float, float, float, float]:
        return self.seconds, self.cpu, self.largest, self.together


def cost_of(command: list[str], folder: Path) -> Cost:
    """Run a command to its end and watch its processes.

    Raises:
        SystemExit: It failed; the message is the end of its output.
    """
    log = folder / "log.txt"
    for made in folder.glob("*.rknn*"):
        made.unlink()  # to replace a large file takes time that is nobody's
    environment = {**os.environ, "TQDM_DISABLE": "1", "ORT_RKNN_CACHE_DIR": str(folder / "cache")}
    with log.open("wb") as output:
        began, used = time.perf_counter(), _cpu_of_children()
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=environment)
        ended, peaks = threading.Event(), [0.0, 0.0]
        watcher = threading.Thread(target=_watch, args=(process.pid, ended, peaks))
        watcher.start()
        status = process.wait()
        seconds, cpu = time.perf_counter() - began, _cpu_of_children() - used
        ended.set()
        watcher.join()
    if status:
        raise SystemExit(f"{command[0]} failed:\n{log.read_text(errors='replace')[-2000:]}")
    return Cost(seconds, cpu, *peaks)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(root: int, ended: threading.Event, peaks: list[float]) -> None:
    while not ended.wait(SAMPLE_S):
        together = 0.0
        for pid in _family(root):
            peaks[0] = max(peaks[0], _kilobytes(pid, "status", "VmHWM:") / 1024)
            together += _kilobytes(pid, "smaps_rollup", "Pss:") / 1024
        peaks[1] = max(peaks[1], together)


def _family(root: int) -> list[int]:
    """A process and all that came from it."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # it has just ended
                continue
    return found


def _kilobytes(pid: int, file: str, key: str) -> int:
    try:
        with Path(f"/proc/{pid}/{file}").open() as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
    except OSError:
        return 0


def compare(names: list[str], target: str, rounds: int, console: Console) -> bool:
    """Print time and memory of our conversions beside the bare toolkit's; says whether the limits are kept."""
    toolkit = find_python().python
    os.environ[PYTHON_VARIABLE] = toolkit  # the cache of a run is empty, and the toolkit may live in the user's
    table = Table(title=f"conversion for {target}: the best of {rounds} runs in turns, bare toolkit / ours")
    for column in ("model", "time", "ratio", "CPU", "ratio", "largest process", "ratio", "all processes", "ratio", ""):
        table.add_column(column, justify="left" if column in ("model", "") else "right")
    kept = True
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            folder = Path(scratch)
            model = str(folder / f"{name}.onnx")
            onnx.save(MODELS[name](), model)
            bare_command = [toolkit, "-c", _BARE, model, target, str(folder / "bare.rknn"), str(stub_modules.__file__)]
            our_command = [sys.executable, "-c", _OURS, model, "-o", str(folder / "ours.rknn.onnx"), "--target", target]
            pairs = [(cost_of(bare_command, folder), cost_of(our_command, folder)) for _ in range(rounds)]
            bare, ours = pairs[0]
            for one, other in pairs[1:]:
                bare, ours = bare.best(one), ours.best(other)
            good = ours.seconds <= TIME_LIMIT * bare.seconds and ours.largest <= MEMORY_LIMIT * bare.largest
            kept = kept and good
            table.add_row(name, *_cells(bare, ours), "ok" if good else "[red]over[/red]")
    console.print(table)
    console.print(f"limits: time {TIME_LIMIT:.2f}, memory of the largest process {MEMORY_LIMIT:.2f}")
    console.print(BOUNDS)
    return kept


def memory(names: list[str], target: str, rounds: int, console: Console) -> None:
    """Print time and memory of our conversions alone."""
    os.environ[PYTHON_VARIABLE] = find_python().python
    table = Table(title=f"conversion for {target}: the best of {rounds} runs")
    for column in ("model", "ONNX file", "time", "CPU", "largest process", "all processes"):
        table.add_column(column, justify="left" if column == "model" else "right")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in names:
            model = folder / f"{name}.onnx"
            onnx.save(MODELS[name](), model)
            words = [sys.executable, "-c", _OURS, str(model), "-o", str(folder / "ours.rknn.onnx"), "--target", target]
            cost = cost_of(words, folder)
            for _ in range(rounds - 1):
                cost = cost.best(cost_of(words, folder))
            sizes = [f"{size:.0f} MB" for size in (model.stat().st_size / 1e6, cost.largest, cost.together)]
            table.add_row(name, sizes[0], f"{cost.seconds:.1f} s", f"{cost.cpu:.1f} s", *sizes[1:])
    console.print(table)


def _cells(bare: Cost, ours: Cost) -> list[str]:
    cells = []
    for one, other in ((bare.seconds, ours.seconds), (bare.cpu, ours.cpu)):
        cells += [f"{one:.2f} / {other:.2f} s", f"{other / one:.2f}"]
    for one, other in ((bare.largest, ours.largest), (bare.together, ours.together)):
        cells += [f"{one:.0f} / {other:.0f} MB", f"{other / one:.2f}"]
    return cells


def errors(names: list[str], targets: tuple[str, ...], console: Console) -> None:
    """Print, per model and target, the nodes on the NPU, the worst relative RMS, and what stays on the CPU and why."""
    table = Table(title="verification: worst relative RMS error against CPU onnxruntime")
    for column in ("model", "target", "nodes on the NPU", "parts", "rel RMS", "time", "on the CPU"):
        table.add_column(column, justify="left" if column in ("model", "target", "on the CPU") else "right")
    for name in names:
        for target in targets:
            options = ConvertOptions.of(target=target, dims=DIMS.get(name, {}))
            began = time.perf_counter()
            plan = convert(MODELS[name](), options=options).plan
            seconds = time.perf_counter() - began
            left = [f"{node.op_type}: {node.reason}" for node in plan.nodes if node.place == "CPU"]
            reasons = "; ".join(f"{left.count(text)} x {text}" for text in dict.fromkeys(left))
            worst = max((part.rel_rms or 0.0 for part in plan.segments), default=0.0)
            counts = f"{plan.npu_nodes} of {len(plan.nodes)}", str(len(plan.segments))
            table.add_row(name, target, *counts, f"{worst:.1e}", f"{seconds:.1f} s", reasons)
    console.print(table)


def main() -> int:
    """Print the tables; the exit code is 1 when a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], help="default: the four of the comparison, or all")
    parser.add_argument("--target", default=TARGETS[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="verification errors for all targets, no comparison")
    parser.add_argument("--memory", action="store_true", help="memory of ours alone, no comparison")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    if arguments.all:
        errors(arguments.models or list(MODELS), TARGETS, console)
        return 0
    if arguments.memory:
        memory(arguments.models or list(WELL_KNOWN), arguments.target, arguments.rounds, console)
        return 0
    return 0 if compare(arguments.models or list(COMPARED), arguments.target, arguments.rounds, console) else 1


if __name__ == "__main__":
    raise SystemExit(main())
