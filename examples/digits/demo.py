"""The whole way in one program: get the toolkit, convert, look at the plan, run, compare, measure. ``make demo``.

Every promise made below is checked; the exit code is 1 when one does not hold.
"""

from __future__ import annotations

import difflib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from data import to_network, train_and_test
from numpy.typing import NDArray
from picture import draw
from rates import LATENCY_MS, Rates, measure
from rich.console import Console
from rich.table import Table

import ort_rknn as ort

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "out"
MODEL = HERE / "digits.onnx"
TARGET = "rk3588"
# A network this small would not pay for the trip to a real NPU, and the planner would rightly leave it on the CPU. Here
# it shall go: min_gain=0 switches that rule off.
OPTIONS: dict[str, Any] = {"device": "simulator", "target": TARGET, "min_gain": 0}
ENVIRONMENT = {f"ORT_RKNN_{name.upper()}": str(value) for name, value in OPTIONS.items()}

LEAST_NPU_SHARE = 0.9
MOST_DIFFERENCE = 0.01
LEAST_SPEED_UP = 2.7

Probabilities = NDArray[np.float32]
console = Console(highlight=False, width=min(Console().width, 110))


def main() -> int:
    logging.basicConfig(format="%(message)s")
    start = time.perf_counter()
    OUT.mkdir(exist_ok=True)

    heading(1, "The vendor's toolkit, in an environment of its own")
    command("-c", "from ort_rknn.cli import main; main()", "toolkit", "install")

    heading(2, f"Convert digits.onnx for {TARGET}, with the vendor's real compiler")
    npu_share = convert()

    heading(3, "One program, twice: onnxruntime, and the same with its import swapped")
    cpu, npu = classify()
    _, test = train_and_test()
    agree = int(np.count_nonzero(cpu.argmax(1) == npu.argmax(1)))
    difference = float(np.abs(cpu - npu).max())
    console.print(f"{agree} of {len(cpu)} labels agree; largest difference of a probability: {difference:.6f}")

    heading(4, f"How busy the engine keeps pretend cores of {LATENCY_MS:g} ms")
    feeds = [{"image": digit[np.newaxis]} for digit in to_network(test.images)]
    one, three = measure(MODEL, OPTIONS, (1, 3), feeds)
    console.print(rate_table(one, three))
    speed_up = three.asynchronous / one.asynchronous

    picture = OUT / "digits.png"
    draw(picture, test.images, test.labels, cpu, npu, limit=MOST_DIFFERENCE, target=TARGET)

    heading(5, "What was promised, what came out")
    right = float(np.mean(npu.argmax(1) == test.labels))
    promises = [
        (
            "nodes of the network on the NPU",
            f"at least {LEAST_NPU_SHARE:.0%}",
            f"{npu_share:.0%}",
            npu_share >= LEAST_NPU_SHARE,
        ),
        ("answers that agree with the CPU's", "all", f"{agree} of {len(cpu)}", agree == len(cpu)),
        (
            "largest difference of a probability",
            f"below {MOST_DIFFERENCE}",
            f"{difference:.6f}",
            difference < MOST_DIFFERENCE,
        ),
        (
            "three cores against one, asynchronous",
            f"at least {LEAST_SPEED_UP}x",
            f"{speed_up:.2f}x",
            speed_up >= LEAST_SPEED_UP,
        ),
    ]
    table = Table()
    table.add_column("promise")
    for column in ("wanted", "got", ""):
        table.add_column(column, justify="right")
    for name, wanted, got, kept in promises:
        table.add_row(name, wanted, got, "[green]kept[/]" if kept else "[red]NOT KEPT[/]")
    console.print(table)
    here = Path.cwd()
    console.print(
        f"{right:.1%} of the digits were recognized. What is real and what is not:\n"
        "- The compiler is the vendor's; what it made was verified on the vendor's simulator (error: see the plan).\n"
        "- The answers come from our own [bold]simulator[/], which rounds to the NPU's 16-bit numbers.\n"
        f"- The cores and their {LATENCY_MS:g} ms are [bold]pretended[/]. No board was used.\n"
        f"Picture: {picture.relative_to(here) if picture.is_relative_to(here) else picture}. "
        f"Time: {time.perf_counter() - start:.0f} s.",
        soft_wrap=True,
    )
    return 0 if all(kept for *_, kept in promises) else 1


def heading(number: int, text: str) -> None:
    console.print()
    console.rule(f"[bold]{number}/5  {text}[/]", align="left")


def command(*arguments: str, **environment: str) -> None:
    """Run a Python program in this folder's company; its failure is ours."""
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))}
    sys.stdout.flush()
    done = subprocess.run([sys.executable, *arguments], env={**os.environ, **paths, **environment})
    if done.returncode:
        raise SystemExit(done.returncode)


def convert() -> float:
    """Open the session once: the model is compiled and verified, or found in the cache; returns the NPU's share."""
    start = time.perf_counter()
    session = ort.InferenceSession(MODEL, providers=[("RKNNExecutionProvider", OPTIONS), "CPUExecutionProvider"])
    try:
        console.print(f"session opened in {time.perf_counter() - start:.1f} s (compiled once, then from the cache)")
        console.print(str(session.plan), markup=False, soft_wrap=True)
        return float(session.plan.npu_share)
    finally:
        session.close()


def classify() -> tuple[Probabilities, Probabilities]:
    """Run the program with both imports, each in a process of its own; returns CPU's and NPU's probabilities."""
    program = HERE / "classify.py"
    before = program.read_text(encoding="utf-8")
    after = before.replace("import onnxruntime as ort", "import ort_rknn as ort")
    swapped = OUT / "classify_swapped.py"
    swapped.write_text(after, encoding="utf-8")
    for line in difflib.unified_diff(
        before.splitlines(), after.splitlines(), "classify.py", swapped.name, "", "", 0, ""
    ):
        colour = {"-": "red", "+": "green"}.get(line[:1], "dim")
        console.print(line, style=colour, markup=False)
    answers = []
    for title, path, environment in (
        ("onnxruntime", program, {}),
        (f"ort_rknn, {' '.join(f'{name}={value}' for name, value in ENVIRONMENT.items())}", swapped, ENVIRONMENT),
    ):
        console.print(f"\n[bold]{title}[/]")
        file = OUT / f"{path.stem}.npz"
        command(str(path), str(MODEL), str(file), **environment)
        with np.load(file) as loaded:
            answers.append(loaded["probabilities"])
            npu_used = "RKNNExecutionProvider" in loaded["providers"]
        if npu_used != bool(environment):
            raise SystemExit(f"{path.name} was served by the wrong provider")
    return answers[0], answers[1]


def rate_table(*rows: Rates) -> Table:
    table = Table()
    for column in ("pretend cores", "run()", "run_async()", "at most", "kept busy"):
        table.add_column(column, justify="right")
    for row in rows:
        busy = f"{row.asynchronous / row.possible:.0%}"
        table.add_row(str(row.cores), f"{row.sync:.0f}/s", f"{row.asynchronous:.0f}/s", f"{row.possible:.0f}/s", busy)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
