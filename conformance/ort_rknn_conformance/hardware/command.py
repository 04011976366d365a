"""``ort-rknn board-test``: trials, contract and costs of one board in one JSON that says where it was made."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from ort_rknn_conformance.hardware.report_file import FORMAT, ReportFile
from ort_rknn_conformance.hardware.trial import Trial
from ort_rknn_converters.cli.heartbeat import shown_lines
from ort_rknn_converters.util.foreign_text import in_markup, shown

__all__ = ["FORMAT", "GROUPS", "WHERE", "command", "where_it_ran"]

WHERE: Mapping[str, str] = {
    "hardware": "a board",
    "emulated": "EMULATED: the vendor's interface without an NPU behind it, no board",
    "simulated": "SIMULATED: our own arithmetic, no board",
}

GROUPS: Mapping[str, str] = {
    "start": "opening the device",
    "cores": "a convolution on every core and core mask",
    "models": "other models on every core",
    "operators": "operators, on each core",
    "features": "what the runtime can do",
    "speed": "speed: 0.7 G multiplications and additions (fp16)",
    "cost": "what operators cost, on one core",
}
"""Group of trials -> its heading, in the order of the report."""

RUNS = 100  # inferences a trial: a second or two on a slow core (a guess)
COST_RUNS = 30  # inferences of each model that is measured; the median of so many moves by a few percent (a guess)

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
@click.option("--contract", is_flag=True, help="Only ask the runtime what it answers to right and wrong calls.")
@click.option("--cost", is_flag=True, help="Only measure what operators and transfers cost.")
@click.option("--resume", is_flag=True, help="Go on with the JSON that is there; what it has is not made again.")
@click.option("--trial-limit", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Seconds a trial.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False),
    default="board-test.json",
    show_default=True,
    help="Where the report goes; it grows after each trial.",
)
def command(
    device: str,
    target: str | None,
    runs: int,
    contract: bool,
    cost: bool,
    resume: bool,
    trial_limit: float,
    json_file: str,
) -> None:
    """Run the bundled models on every core in every way, and write what is true on this board as JSON.

    Without --contract and --cost it does all: trials, contract and (on a board) costs. What crashes or hangs is a
    result. Needs neither toolkit nor network. Exit code 0: all right. 1: something was not. 2: there is no such
    device here.
    """
    from ort_rknn.devices.soc import named_target
    from ort_rknn.opening.choose_device import DeviceOptions, choose
    from ort_rknn_conformance.doctor.board import board_findings
    from ort_rknn_conformance.doctor.board_models import CONVOLUTION
    from ort_rknn_conformance.report.versions import versions
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
    facts = {key: str(value) for key, value in used.describe().items()}
    used.close()
    try:
        CONVOLUTION.read(choice.target)
    except FileNotFoundError:
        _refuse(f"there are no bundled models for {choice.target}")
    if (contract or cost) and device != "npu":
        _refuse(f"--contract and --cost are for the device npu: {device} has no such runtime")
    known = {
        "where": where,
        "target": choice.target,
        "board": _board_name() if where == "hardware" else None,
        "device": facts,
        "machine": [
            asdict(row)
            for row in board_findings(
                "/", toolkit_version(), machine=platform.machine(), named=target or named_target()
            )
        ],
        "versions": versions(),
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "runs": runs,
    }
    try:
        report = ReportFile(json_file, known, resume=resume)
        parts = _Parts(report, device, choice.target, where, limit=trial_limit)
        everything = not (contract or cost)
        if everything:
            parts.trials(runs)
        if device == "npu" and (contract or everything):
            parts.contract(facts["library"])
        if device == "npu" and (cost or (everything and where == "hardware")):
            parts.costs()
        report.put("complete", True)
    except ValueError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{json_file} cannot be written: {error.strerror}")
    raise SystemExit(_show(report, choice.target, where, json_file))


class _Parts:
    """The parts of the report, each with its own processes.

    Args:
        report: Where all goes.
        device: As chosen.
        target: SoC.
        where: As :data:`WHERE` has it.
        limit: Seconds a trial may take.
    """

    def __init__(self, report: ReportFile, device: str, target: str, where: str, *, limit: float) -> None:
        self._report = report
        self._arguments = ("--device", device, "--target", target)
        self._target = target
        self._where = where
        self._limit = limit

    def trials(self, runs: int) -> None:
        """The bundled models in every way."""
        self._make("--runs", str(runs))

    def _make(self, *more: str) -> None:
        from ort_rknn_conformance.hardware.watched import make_trials

        with _progress() as show:
            make_trials(
                self._report,
                [*self._arguments, *more],
                limit=self._limit,
                tell=lambda trial: show(f"{trial.group}: {trial.name}"),
            )

    def contract(self, library: str) -> None:
        """The runtime's answers, model by model."""
        from ort_rknn_conformance.hardware.contract.ask import ask_apart
        from ort_rknn_conformance.hardware.contract.models import contract_models

        answers = dict(self._report.content.get("contract", {}))
        with _progress() as show:
            for name, model, dynamic in contract_models(self._target):
                if name in answers:
                    continue
                show(f"contract: {name}")
                found = ask_apart(library, model, dynamic=dynamic)
                answers[name] = [section.to_dict() for section in found]
                self._report.put("contract", answers)

    def costs(self) -> None:
        """Measures what operators and transfers cost; on a board the cost rule reads it from now on."""
        from ort_rknn_conformance.hardware.cost_trials import costs_in
        from ort_rknn_converters.partition.cost_profile import CostProfile
        from ort_rknn_converters.partition.installed_profile import profile_path

        self._make("--cost", "--runs", str(COST_RUNS))
        operators, transfers = costs_in(self._report.trials)
        content = self._report.content
        profile = CostProfile(
            target=self._target,
            where=self._where,
            board=content["board"],
            runtime=content["device"].get("runtime", ""),
            driver=content["device"].get("driver", ""),
            written=content["written"],
            operators=operators,
            transfers=transfers,
        )
        self._report.put("cost", profile.to_dict())
        if profile.measured and operators:
            profile.save(profile_path(self._target))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is going on; in a log, a line a trial and one now and then."""
    console = Console(highlight=False, file=sys.stderr)
    with shown_lines(console, "running the bundled models") as shown:

        def show(text: str) -> None:
            shown(text)
            if not console.is_terminal:
                console.print(text, markup=False, soft_wrap=True)

        yield show


def _show(report: ReportFile, target: str, where: str, json_file: str) -> int:
    """Print the tables; gives the exit code."""
    console = Console(highlight=False)
    found = report.trials
    console.print(f"[bold]board test[/]  {target}, {WHERE[where]}")
    for group, heading in GROUPS.items():
        rows = [trial for trial in found if trial.group == group]
        if rows:
            timed = group in ("speed", "cost") and where != "hardware"
            console.print(_table(heading + (f"; {where}: these times mean nothing" if timed else ""), rows))
    contract = report.content.get("contract", {})
    if contract:
        asked = sum(len(section["lines"]) for sections in contract.values() for section in sections)
        died = sum(bool(section["died"]) for sections in contract.values() for section in sections)
        console.print(f"contract: {asked} answers of {len(contract)} models; {died} questions ended the process")
    bad, right = (sum(trial.ok is kind for trial in found) for kind in (False, True))
    verdict = f"[bold red]{bad} wrong[/], {right} right" if bad else f"[bold green]{right} right, none wrong[/]"
    console.print(f"{verdict}; written to {in_markup(json_file)}")
    if where == "hardware":
        console.print("please attach it to an issue: docs/hardware.md is made of such files")
    return 1 if bad else 0


def where_it_ran(device: Any) -> str:
    """``hardware``, ``emulated`` or ``simulated``: a board is only what a device tree and a real library say is one.

    In a container that hides the device tree the user's name for the SoC stands in for it, where a device node is, too.
    """
    from ort_rknn.devices.soc import detect, named_target
    from ort_rknn_conformance.flows.emulated_device import is_emulator

    if device.name not in ("npu", "lite"):
        return "simulated"
    library = getattr(device, "library", None)
    if library is not None and is_emulator(library.path):
        return "emulated"
    soc = detect(named=named_target())
    known = soc.target is not None and (not soc.named or bool(soc.nodes))
    return "hardware" if known and platform.machine().startswith(("aarch64", "arm")) else "emulated"


def _board_name() -> str | None:
    """Name of the board in its device tree."""
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
        table.add_row(in_markup(trial.name), f"[{colour}]{in_markup(trial.said)}[/]", *numbers[: len(columns)])
    return table


def _refuse(message: str) -> NoReturn:
    click.echo(f"error: {shown(message, 2000)}", err=True)
    raise SystemExit(2)
