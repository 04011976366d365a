"""The line that says where a conversion is: on a terminal, after a moment, and nowhere else."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import threading

_SCRIPT = """
import sys
from ort_rknn_converters.cli.progress_bar import Drawn
assert "rich" not in sys.modules
with Drawn(quiet=sys.argv[1] == "quiet") as progress:
    progress.report("compile", "part [bold] npu_0", 1, 3)
    sys.stdin.readline()
    progress.report("save", "[x]")
"""


def drawn(*, terminal: bool, quiet: bool = False) -> str:
    """What is drawn until the spinner has shown the first words, or for two seconds."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-c", _SCRIPT, "quiet" if quiet else "loud"]
    shown = b""
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        limit = 60.0 if terminal and not quiet else 2.0
        while b"npu_0" not in shown and select.select([ours], [], [], limit)[0]:
            shown += os.read(ours, 4096)
        process.communicate(b"\n")
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_it_is_drawn_on_a_terminal() -> None:
    assert "compiling and verifying (1 of 3): part [bold] npu_0" in drawn(terminal=True)


def test_nothing_is_drawn_elsewhere_or_when_asked_to_be_quiet() -> None:
    assert drawn(terminal=True, quiet=True) == ""
    assert drawn(terminal=False) == ""


def test_what_is_over_at_once_is_not_drawn() -> None:
    from ort_rknn_converters.cli.progress_bar import Drawn

    before = threading.active_count()
    with Drawn() as progress:
        progress.report("load")
    assert threading.active_count() <= before + 1
