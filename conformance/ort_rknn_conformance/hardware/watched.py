"""Runs the worker, gives every trial a time limit, and turns its death into a result that names the call."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ort_rknn_conformance.hardware.black_box import BlackBox
from ort_rknn_conformance.hardware.report_file import ReportFile
from ort_rknn_conformance.hardware.trial import Trial
from ort_rknn_converters.util.plain_data import parse_json

__all__ = ["LIMIT", "make_trials"]

LIMIT = 120.0
"""Seconds for one trial, and for the start of the process. A guess: the longest is 100 inferences of 0.7 G
multiplications, one second where it is slow."""

_LAST_LINES = 12


class _Process:
    """One run of the worker.

    Args:
        arguments: Of the worker.
        log: Where its stderr goes.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        reader, writer = os.pipe()
        self._reader = reader
        self._rest = b""
        command = [sys.executable, "-m", "ort_rknn_conformance.hardware.worker", *arguments, "--pipe", str(writer)]
        with log.open("wb") as file:
            self._child = subprocess.Popen(command, pass_fds=[writer], stdout=file, stderr=file)
        os.close(writer)

    def messages(self, limit: float) -> Iterator[dict[str, Any]]:
        """Yields what the process tells until its end; raises ``TimeoutError`` when nothing comes for so long."""
        while True:
            line, found, rest = self._rest.partition(b"\n")
            if found:
                self._rest = rest
                yield parse_json(line)
                continue
            if not select.select([self._reader], [], [], limit)[0]:
                raise TimeoutError
            part = os.read(self._reader, 65536)
            if not part:
                return
            self._rest += part

    def end(self, *, kill: bool = False) -> str:
        """Let it end, or kill it; how it did, in words."""
        os.close(self._reader)
        if kill:
            self._child.kill()
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            try:
                self._child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                return "hangs inside the driver, where nothing ends it"
            return "hangs"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def make_trials(
    report: ReportFile,
    arguments: Sequence[str],
    *,
    limit: float = LIMIT,
    only: int | None = None,
    tell: Callable[[Trial], None] | None = None,
) -> None:
    """Make all trials that a report does not have yet; each is in the file as soon as it is made.

    Args:
        report: The file.
        arguments: Of the worker.
        limit: Seconds for one trial.
        only: Stop after the process in which the report has got so many trials.
        tell: Called with each trial.
    """

    def add(trial: Trial) -> None:
        report.add(trial)
        if tell is not None:
            tell(trial)

    with tempfile.TemporaryDirectory() as folder:
        box, done, log = (Path(folder) / name for name in ("box", "done", "log"))
        black_box = BlackBox(box)
        while True:
            black_box.clear()
            done.write_text(json.dumps(sorted(report.done)), encoding="utf-8")
            before = len(report.trials)
            complete = _one_process(
                report, [*arguments, "--box", str(box), "--done", str(done)], log, black_box, limit, add
            )
            if complete or len(report.trials) == before or len(report.trials) >= (only or len(report.trials) + 1):
                return


def _one_process(
    report: ReportFile,
    arguments: Sequence[str],
    log: Path,
    box: BlackBox,
    limit: float,
    add: Callable[[Trial], None],
) -> bool:
    """Run the worker once; whether it made all there was to make."""
    process = _Process(arguments, log)
    at: tuple[str, list[str]] = ("start", ["the device is opened"])
    how = ""
    try:
        for message in process.messages(limit):
            if "begin" in message:
                at = (message["begin"][0], message["begin"][1])
            elif "device" in message:
                report.put("device", message["device"])
            elif "end" in message:
                return True
            for row in message.get("trials", ()):
                add(Trial(**row))
            if "trials" in message:
                at = (at[0], [])
    except TimeoutError:
        how = f"did not end within {limit:.0f} s"
    finally:
        calls = box.under_way()
        ended = process.end(kill=bool(how))
    said = f"the process {how or ended}" + (f", in {calls}" if calls else "")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    known = report.done
    for name in at[1] or ["the end"]:
        if (at[0], name) not in known:
            add(Trial(at[0], name, False, said, details="\n".join(lines)))
    return False
