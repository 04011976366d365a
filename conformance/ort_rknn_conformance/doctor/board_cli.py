"""``ort-rknn board-test``: the tables, and one JSON that says where it was made: on hardware, emulated or simulated."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ort_rknn_conformance.doctor.trial import Trial

__all__ = ["FORMAT", "GROUPS", "WHERE", "command", "where_it_ran"]

FORMAT = 1
"""Version of the file's layout; it grows when a field changes its meaning."""

WHERE: Mapping[str, str] = {
    "hardware": "a board",
    "emulated": "EMULATED: the vendor's interface without an NPU behind it, no board",
    "simulated": "SIMULATED: our own arithmetic, no board",
}

GROUPS: Mapping[str, str] = {
    "cores": "a convolution on every core and core mask",
    "models": "other models on every core",
    "operators": "operators, on all cores",
    "features": "what the runtime can do",
    "speed": "speed: 0.7 G multiplications and additions (fp16)",
}
"""Group of trials -> its heading, in the order of the report."""

RUNS = 100  # inferences a trial: a second or two on a slow core (a guess)

_MODEL_FILES = ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model")


@click.command("board-test")
@click.option(
    "--device",
    type=click.Choice(["npu", "lite", "simulator"]),
    default="npu",
    show_default=True,
    help="The simulator proves the command, nothing about a board.",
)
@click.option("--target", help="SoC. Default: what the device tree says.")
@click.option("--runs", type=click.IntRange(min=1), default=RUNS, show_default=True, help="Inferences per trial.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False),
    default="board-test.json",
    show_default=True,
    help="Where the report goes.",
)
def command(device: str, target: str | None, runs: int, json_file: str) -> None:
    """Run the bundled models on every core in every way, and write what is true on this board as JSON.

    Needs neither toolkit nor network. Exit code 0: all right. 1: something was not. 2: there is no such device here.
    """
    from ort_rknn.opening.choose_device import DeviceOptions, choose
    from ort_rknn_conformance.doctor.board import board_findings
    from ort_rknn_conformance.doctor.board_test import board_test
    from ort_rknn_conformance.report.json_report import versions
    from ort_rknn_converters.errors import UnknownTarget
    from ort_rknn_converters.toolkit.setup.environment import toolkit_version

    if not Path(json_file).absolute().parent.is_dir():
        _refuse(f"{json_file} cannot be written: {Path(json_file).parent} is not there")
    try:
        choice = choose(device, DeviceOptions(target=target))
    except UnknownTarget as error:
        _refuse(str(error))
    if choice.device is None:
        _refuse(choice.reason)
    used: Any = choice.device
    where = where_it_ran(used)
    if where == "emulated":
        used = _with_arithmetic(used, choice.target)
    console = Console(highlight=False)
    try:
        with console.status("running the bundled models"):
            found = board_test(used, choice.target, runs=runs)
        facts = {key: str(value) for key, value in used.describe().items()}
    except FileNotFoundError:
        _refuse(f"there are no bundled models for {choice.target}")
    finally:
        used.close()
    content = {
        "format": FORMAT,
        "where": where,
        "target": choice.target,
        "board": _board_name() if where == "hardware" else None,
        "device": facts,
        "machine": [asdict(row) for row in board_findings("/", toolkit_version(), machine=platform.machine())],
        "versions": versions(),
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "runs": runs,
        "trials": [trial.to_dict() for trial in found],
    }
    try:
        Path(json_file).write_text(json.dumps(content, indent=1), encoding="utf-8")
    except OSError as error:
        _refuse(f"{json_file} cannot be written: {error.strerror}")
    console.print(f"[bold]board test[/]  {choice.target}, {WHERE[where]}")
    for group, heading in GROUPS.items():
        rows = [trial for trial in found if trial.group == group]
        if rows:
            more = f"; {where}: these times mean nothing" if group == "speed" and where != "hardware" else ""
            console.print(_table(heading + more, rows))
    bad, right = (sum(trial.ok is kind for trial in found) for kind in (False, True))
    verdict = f"[bold red]{bad} wrong[/], {right} right" if bad else f"[bold green]{right} right, none wrong[/]"
    console.print(f"{verdict}; written to {escape(json_file)}")
    if where == "hardware":
        console.print("please attach it to an issue: docs/hardware.md is made of such files")
    raise SystemExit(1 if bad else 0)


def where_it_ran(device: Any) -> str:
    """``hardware``, ``emulated`` or ``simulated``: a board is only what a device tree and a real library say is one."""
    from ort_rknn.devices.soc import detect
    from ort_rknn_conformance.flows.emulated_device import is_emulator

    if device.name not in ("npu", "lite"):
        return "simulated"
    library = getattr(device, "library", None)
    if library is not None and is_emulator(library.path):
        return "emulated"
    board = detect().target is not None and platform.machine().startswith(("aarch64", "arm"))
    return "hardware" if board else "emulated"


def _with_arithmetic(device: Any, target: str) -> Any:
    """The same device with our arithmetic lent to the emulator, where it is this project's."""
    from ort_rknn.devices.settings import NpuSettings
    from ort_rknn_conformance.flows.emulated_device import EmulatedNpu, is_emulator

    library = getattr(device, "library", None)
    if library is None or not is_emulator(library.path):
        return device
    device.close()
    return EmulatedNpu(NpuSettings(target=target, runtime_library=library.path))


def _board_name() -> str | None:
    """What the device tree calls this board."""
    for name in _MODEL_FILES:
        try:
            return Path(name).read_text(errors="replace").strip("\0\n ")
        except OSError:
            continue
    return None


def _table(heading: str, trials: Sequence[Trial]) -> Table:
    timed = any(trial.per_second is not None for trial in trials)
    table = Table(title=heading, title_justify="left")
    table.add_column("trial", overflow="fold")
    table.add_column("result", overflow="fold")
    columns = ("median ms", "p95 ms", "per second") if timed else ()
    for name in columns:
        table.add_column(name, justify="right")
    for trial in trials:
        colour = "dim" if trial.ok is None else "green" if trial.ok else "red"
        numbers = [
            "-" if value is None else f"{value:.{digits}f}"
            for value, digits in ((trial.median_ms, 2), (trial.p95_ms, 2), (trial.per_second, 0))
        ]
        table.add_row(escape(trial.name), f"[{colour}]{escape(trial.said)}[/]", *numbers[: len(columns)])
    return table


def _refuse(message: str) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    raise SystemExit(2)
