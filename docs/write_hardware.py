"""Writes docs/hardware.md from the JSON files of `ort-rknn board-test`: what has been seen on which hardware.

python -m docs.write_hardware                       the reports that are kept in docs/board-reports
python -m docs.write_hardware reports/*.json        others
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from docs.markdown import table
from ort_rknn_conformance.hardware.command import FORMAT, GROUPS, WHERE
from ort_rknn_conformance.hardware.contract.sections import Section
from tests.emulator.differences import BEYOND_THE_RECORD, DELIBERATE, VERSIONS
from tests.helpers.contracts import RECORD, answered, recorded

PAGE = Path(__file__).with_name("hardware.md")
REPORTS = PAGE.with_name("board-reports")

INTRODUCTION = """\
# What has been seen on which hardware

Written by `python -m docs.write_hardware` from the files of `ort-rknn board-test`; do not edit.

A board's owner runs `ort-rknn board-test` once: it needs neither toolkit nor network, takes some minutes, and writes
one JSON with what was right, what was not, the times, the runtime's answers to the project's questions (its contract)
and what operators cost. What crashes or hangs is a result too; `--resume` goes on after an interruption. Attached to an
issue, the file becomes a column here."""

NO_BOARD = """\
**No board has been seen.** Everything this project says about NPUs comes from the vendor's simulator, from our own,
from the vendor's documents and from what users of other projects report. Times on a board are not known."""

EMULATED = """\
No evidence about hardware. An emulated run goes through the vendor's C interface of the tests' emulated runtime, with
our simulator's arithmetic; a simulated one has no such interface. They show that the command and our side of the
interface work. Their times mean nothing and are left out."""

VENDOR = """\
The vendor's librknnrt 1.6.0 was asked by black-box calls, over a kernel driver that was answered from memory: return
codes, attributes, log lines and crashes, and nothing about numbers or times. The answers are in
`tests/data/librknnrt-1.6.0`; a test holds the emulated runtime against them, word for word.
`ort-rknn board-test --contract` asks any other runtime the same. What follows is all in which the emulated one differs,
or goes beyond what was asked."""

MARKS = {True: "right", False: "**wrong**", None: "answered"}


@dataclass(frozen=True)
class Report:
    """One file of `ort-rknn board-test`."""

    name: str
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a file; one that is no such report ends the program."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["where"] not in WHERE:
                raise ValueError(f"format {content['format']}, made {content['where']}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path}: no report of ort-rknn board-test ({error})") from error
        return cls(path.stem, content)

    @property
    def hardware(self) -> bool:
        """Whether a board made it."""
        return bool(self.content["where"] == "hardware")

    @property
    def title(self) -> str:
        """A board's name, or what stood in for one."""
        board = self.content["board"] if self.hardware else self.content["where"]
        return f"{board or 'unnamed board'}, {self.content['target']}"

    def trials(self, group: str) -> dict[str, dict[str, Any]]:
        """Trials of a group by name."""
        return {trial["name"]: trial for trial in self.content["trials"] if trial["group"] == group}

    @property
    def summary(self) -> str:
        """How many trials were right."""
        verdicts = [trial["ok"] for trial in self.content["trials"]]
        bad = verdicts.count(False)
        return f"{verdicts.count(True)} right, {bad or 'none'} wrong"


def page(reports: Sequence[Report]) -> Iterator[str]:
    """The lines of the page."""
    boards = [report for report in reports if report.hardware]
    others = [report for report in reports if not report.hardware]
    yield INTRODUCTION
    yield ""
    yield "## Boards"
    yield ""
    if boards:
        yield from _machines(boards)
        for group, heading in GROUPS.items():
            yield from _results(group, heading, boards)
        yield from _costs(boards)
        yield from _contracts(boards)
        yield from _details(boards)
    else:
        yield NO_BOARD
    if others:
        yield ""
        yield "## Not hardware: emulated and simulated runs"
        yield ""
        yield EMULATED
        yield ""
        yield from _machines(others)
        for group, heading in GROUPS.items():
            if group not in ("speed", "cost"):
                yield from _results(group, heading, others)
        yield from _contracts(others)
    yield from _vendor()


def _machines(reports: Sequence[Report]) -> Iterator[str]:
    """One line a run: who, with what, and how it went."""
    rows = []
    for report in reports:
        device, versions = report.content["device"], report.content["versions"]
        rows.append(
            [
                report.title,
                device.get("name") or device.get("device", ""),
                device.get("runtime", "-") if report.hardware else "-",
                device.get("driver", "-") if report.hardware else "-",
                str(versions.get("onnxruntime")),
                report.content["written"][:10],
                report.summary,
            ]
        )
    header = ["where", "device", "runtime", "driver", "onnxruntime", "date", "trials"]
    yield from table(header, rows)


def _results(group: str, heading: str, reports: Sequence[Report]) -> Iterator[str]:
    """What each run made of a group's trials."""
    longest = sorted(reports, key=lambda report: -len(report.trials(group)))  # its order is the command's
    names = list(dict.fromkeys(name for report in longest for name in report.trials(group)))
    if not names:
        return
    yield ""
    yield f"### {heading}"
    yield ""
    rows = [[name, *(_cell(report.trials(group).get(name), report.hardware) for report in reports)] for name in names]
    yield from table(["trial", *(report.title for report in reports)], rows)


def _cell(trial: dict[str, Any] | None, timed: bool) -> str:
    if trial is None:
        return "not tried"
    if not timed:
        return MARKS[trial["ok"]]
    mark, said = MARKS[trial["ok"]], trial["said"]
    if trial["ok"] is not None:
        said = mark if said in ("right", "") else f"{mark}: {said}"
    if trial["median_ms"] is not None:
        said += f", {trial['median_ms']:.2f} ms (p95 {trial['p95_ms']:.2f})"
    elif trial["per_second"] is not None:
        said += f", {trial['per_second']:.0f} a second"
    return said


def _costs(boards: Sequence[Report]) -> Iterator[str]:
    """What operators cost on each board, and what it costs to bring data there."""
    for report in boards:
        cost = report.content.get("cost")
        if not cost:
            continue
        yield ""
        yield f"### {report.title}: what operators cost"
        yield ""
        rows = [
            [row["kind"], row["shape"], row["dtype"], f"{row['ms']:.3f}", _rate(row["macs"], row["ms"])]
            for row in cost["operators"]
        ]
        yield from table(["kind", "shape", "precision", "ms", "G mult.-add. a second"], rows)
        yield ""
        rows = [
            [row["way"], row["dtype"], str(row["bytes"]), f"{row['ms']:.3f}", _rate(row["bytes"], row["ms"])]
            for row in cost["transfers"]
        ]
        yield from table(["way", "type", "bytes", "ms", "GB a second"], rows)


def _rate(amount: int, ms: float) -> str:
    return f"{amount / ms / 1e6:.1f}" if amount and ms else "-"


def _contracts(reports: Sequence[Report]) -> Iterator[str]:
    """How many answers of each runtime are other than those on record."""
    asked = [report for report in reports if report.content.get("contract")]
    if not asked:
        return
    yield ""
    yield "### The runtime's contract, beside that of librknnrt 1.6.0"
    yield ""
    rows = []
    for report in asked:
        sections = [section for model in report.content["contract"].values() for section in model]
        answers = sum(len(section["lines"]) for section in sections)
        died = sum(bool(section["died"]) for section in sections)
        rows.append([report.title, str(answers), str(died), str(_off_record(report))])
    yield from table(["where", "answers", "questions that ended the process", "answered otherwise"], rows)


def _off_record(report: Report) -> int:
    """How many answers of the models on record are others."""
    count = 0
    for name, sections in report.content["contract"].items():
        if report.content["target"] == "rk3588" and (RECORD / f"{name}.txt").exists():
            answers = answered(Section.from_dict(section) for section in sections)
            pairs = zip_longest(recorded(name), answers, fillvalue=("", ()))
            count += sum(a != b and not any(one.holds(name, a[0]) for one in DELIBERATE) for a, b in pairs)
    return count


def _vendor() -> Iterator[str]:
    """What the vendor's runtime does and the emulated one repeats."""
    yield ""
    yield "## What librknnrt 1.6.0 answers, and where the emulated runtime differs"
    yield ""
    yield VENDOR
    yield ""
    yield from table(["emulated otherwise, on purpose", "because"], [[one.pattern, one.reason] for one in DELIBERATE])
    yield ""
    yield from table(["where nothing is on record", "the emulated runtime"], [list(row) for row in BEYOND_THE_RECORD])
    yield ""
    rows = [[question, *answers] for question, answers in VERSIONS.items()]
    yield from table(["question", "`EMU_RUNTIME=1.6.0`", "`EMU_RUNTIME=2.3.2`", "source"], rows)


def _details(boards: Sequence[Report]) -> Iterator[str]:
    """Long texts of the runtime, as they are."""
    for report in boards:
        for trial in report.content["trials"]:
            if trial["details"] and trial["group"] != "cost":
                yield ""
                yield f"### {report.title}: {trial['name']}"
                yield ""
                yield "```"
                yield trial["details"].rstrip()
                yield "```"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reports", nargs="*", type=Path, help="Default: docs/board-reports/*.json")
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    chosen = parser.parse_args(arguments)
    reports = [Report.read(path) for path in chosen.reports or sorted(REPORTS.glob("*.json"))]
    chosen.output.write_text("\n".join(page(reports)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
