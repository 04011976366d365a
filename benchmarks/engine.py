"""The engine's figures on the emulated runtime, 3 cores, beside their targets and the floor of bare C calls.

Everything is measured in turns, ours and the floor, round after round; medians are printed. A share is of what the
device's latency allows. On a busy computer look at the floor: it is what bare calls reach in the same minute.

    python benchmarks/engine.py [--rounds 3] [--seconds 1] [--only WORD] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_cases import CASES, Case
from engine_rig import Rig
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """A line of the table: which value of which case, and what it must reach.

    Attributes:
        text: Its name.
        case: The case.
        value: Which of its values.
        target: What it must reach.
        above_floor: The target is what may be added to the floor.
        of_floor: The target is a multiple of the floor: the same on a slow computer as on a fast one.
    """

    text: str
    case: str
    value: str
    target: float
    above_floor: bool = False
    of_floor: bool = False

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return self.value == "share"

    def met(self, ours: float, floor: float) -> bool:
        """Whether the target is reached."""
        if self.higher:
            return ours >= self.target
        if self.of_floor:
            return ours <= self.target * floor
        return ours - (floor if self.above_floor else 0.0) <= self.target

    def aim(self) -> str:
        """The target with its unit."""
        if self.of_floor:
            return f"<= {self.target:g} x floor"
        return f"{'>=' if self.higher else '<='} {'floor + ' if self.above_floor else ''}{self.shown(self.target)}"

    def shown(self, number: float) -> str:
        """A number with its unit."""
        if number != number:  # not measured
            return "-"
        units = {"share": f"{100 * number:.1f} %", "us": f"{number:.1f} us", "cpu_ms": f"{number:.2f} ms"}
        return units.get(self.value, f"{number:.1f} MB")


ROWS = (
    Row("blocking run(), 12 KB in, latency 0", "blocking 12 KB", "us", 20),
    Row("blocking run(), 600 KB in, latency 0", "blocking 600 KB", "us", 1.6, of_floor=True),
    Row("blocking run(), 2 NPU segments and 4 CPU nodes", "mixed", "us", 35, above_floor=True),
    Row("async, quiet, default options, 0.5 ms", "quiet 0.5 ms", "share", 0.97),
    Row("async, quiet, default options, 1 ms", "quiet 1 ms", "share", 0.99),
    Row("async, quiet, default options, 5 ms", "quiet 5 ms", "share", 0.999),
    Row("async, quiet, schedule=[0, 1, 2], 0.5 ms", "quiet 0.5 ms, schedule", "share", 0.97),
    Row("async, quiet, schedule=[0, 1, 2], 1 ms", "quiet 1 ms, schedule", "share", 0.99),
    Row("async, quiet, schedule=[0, 1, 2], 5 ms", "quiet 5 ms, schedule", "share", 0.999),
    Row("a Python thread burns bytecode, 5 ms", "burner 5 ms", "share", 0.97),
    Row("a Python thread burns bytecode, 1 ms, limits 64", "burner 1 ms, limits 64", "share", 0.95),
    Row("   the same, each callback compares its result", "burner 1 ms, limits 64, compared", "share", 0.90),
    Row("two processes hog the CPU, 0.5 ms", "hogs 0.5 ms", "share", 0.80),
    Row("two processes hog the CPU, 1 ms", "hogs 1 ms", "share", 0.93),
    Row("every tenth inference 25 ms instead of 5", "uneven", "share", 0.98),
    Row("one core stalls 1.5 s: share of the two others", "stall", "share", 1.0),
    Row("640x640 uint8 in, 6 outputs of 4.8 MB, 5 ms", "detector 5 ms", "share", 0.97),
    Row("   its CPU time per inference", "detector 5 ms", "cpu_ms", 1.5),
    Row("640x640 float32 in, 2.8 MB out: CPU per inference", "floats 5 ms", "cpu_ms", 1.5, of_floor=True),
    Row("zero copy from 4 threads, 10 ms (IOBinding)", "zero copy", "share", 0.97),
    Row("memory kept for a 100 MB model, 3 cores", "memory", "kept", 5),
    Row("memory at most while loading it, above the floor", "memory", "peak", 10, above_floor=True),
)

Results = dict[str, dict[str, dict[str, list[float]]]]
"""Case -> ``ours`` or ``floor`` -> value -> one number for each round."""


def measure(cases: Sequence[Case], rounds: int, seconds: float, console: Console) -> Results:
    """Measure all cases in turns."""
    results: Results = defaultdict(lambda: {"ours": defaultdict(list), "floor": defaultdict(list)})
    columns = (TextColumn("{task.description:<32}"), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console) as progress:
        rig = Rig(Path(folder))
        task = progress.add_task("", total=2 * rounds * len(cases))
        for number in range(rounds):
            for case in cases:
                both = getattr(case, "both", None)
                turns = (("floor", case.floor), ("ours", case.ours))
                if both is not None:  # in turns of some calls each, what else the computer does takes from both alike
                    floor, ours = both(rig, seconds)
                    turns = (("floor", lambda *_, values=floor: values), ("ours", lambda *_, values=ours: values))
                for kind, function in turns:
                    progress.update(task, description=f"round {number + 1}: {case.name}")
                    try:
                        values = function(rig, seconds)
                    except Exception:  # one case must not take the others' figures along
                        console.print(f"[red]{case.name} ({kind}) failed[/]")
                        console.print(traceback.format_exc(), markup=False)
                        values = {}
                    for name, value in values.items():
                        results[case.name][kind][name].append(value)
                    progress.advance(task)
    return results


def _median(numbers: Sequence[float]) -> float:
    return statistics.median(numbers) if numbers else float("nan")


def table(results: Results, load: str) -> tuple[Table, list[dict[str, Any]]]:
    """The table, and the same as plain values."""
    shown = Table(title=f"ort_rknn's engine on the emulated runtime, 3 cores; {load}", title_justify="left")
    for name in ("figure", "target", "ours", "all rounds", "floor", "CPU, switches", ""):
        shown.add_column(name, justify="left" if name in ("figure", "") else "right", no_wrap=True)
    plain = []
    for row in ROWS:
        if row.case not in results:
            continue
        ours, floor = results[row.case]["ours"], results[row.case]["floor"]
        value, least = _median(ours.get(row.value, [])), _median(floor.get(row.value, []))
        met = row.met(value, 0.0 if least != least else least)
        cost = f"{1000 * _median(ours['cpu_ms']):.0f} us, {_median(ours['switches']):.1f}" if "switches" in ours else ""
        shown_floor = row.shown(least)
        if least == least and least and not row.higher:
            shown_floor += f" (x {value / least:.2f})"
        rounds = " ".join(row.shown(number).split(" ")[0] for number in ours.get(row.value, []))
        verdict = "[green]met[/]" if met else "[red]missed[/]"
        shown.add_row(row.text, row.aim(), row.shown(value), rounds, shown_floor, cost, verdict)
        ratio = value / least if least == least and least else None
        plain.append(
            {"figure": row.text, "target": row.aim(), "ours": value, "floor": least, "ratio": ratio, "met": met}
        )
    return shown, plain


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each figure is measured")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long, each time")
    parser.add_argument("--only", default="", help="cases whose name has this word")
    parser.add_argument("--json", type=Path, help="write all numbers here too")
    options = parser.parse_args(arguments)
    console = Console(width=None if os.isatty(1) else 150)
    cases = [case for case in CASES if options.only in case.name]
    before = os.getloadavg()[0]
    results = measure(cases, options.rounds, options.seconds, console)
    load = f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} CPUs"
    shown, plain = table(results, load)
    console.print(shown)
    console.print(
        "ours and floor: medians; a share is of what the latency allows; floor: bare C calls by ctypes, a context and "
        "a thread per core. CPU and context switches are per inference. With a load above the number of CPUs the "
        "shares say more about the computer than about the engine: compare with the floor."
    )
    if options.json is not None:
        facts = {"python": platform.python_version(), "machine": platform.machine(), "load": load}
        options.json.write_text(
            json.dumps({**facts, "rows": plain, "rounds": results}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
