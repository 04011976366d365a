"""``ort-rknn top``: what sessions say of themselves, read from another process's point of view."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import ort_rknn
from ort_rknn.accounting import runtime_folder
from ort_rknn.accounting.published import COUNTERS, HEADER, Page
from ort_rknn.accounting.runtime_folder import own_folder, process_start
from ort_rknn.top.cli import command
from ort_rknn.top.readings import read_sessions, row
from tests.helpers.emulated_model import compiled_emulated
from tests.helpers.emulator import Emulator, Model, Tensor

ROOT = Path(__file__).resolve().parents[3]
MODEL = Model((Tensor("x", "float16", (1, 8)),), (Tensor("y", "float16", (1, 3)),), padding=100_000)
FEED = {"x": np.ones((1, 8), np.float32)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORT_RKNN_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def session(emulator: Emulator, tmp_path: Path, folder: Path) -> Iterator[ort_rknn.InferenceSession]:
    compiled_emulated(MODEL).save(tmp_path / "detector.onnx")
    options = {"device": "npu", "runtime_library": emulator.path, "target": "rk3588", "priority": "low"}
    providers = [("RKNNExecutionProvider", options)]
    with ort_rknn.InferenceSession(tmp_path / "detector.onnx", providers=providers) as opened:
        yield opened
    assert list(folder.iterdir()) == []


def looked() -> dict[str, Any]:
    result = CliRunner().invoke(command, ["--json", "--interval", "0.05"])
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.output)
    return answer


def test_a_session_is_shown_with_what_it_did(session: ort_rknn.InferenceSession, emulator: Emulator) -> None:
    for _ in range(3):
        session.run(None, FEED)
    for job in [session.submit(None, FEED) for _ in range(4)]:
        job.result(20)
    emulator.errors_are_meant = True
    emulator.configure(fault="rknn_run@1=-1")
    with pytest.raises(ort_rknn.DeviceError):
        session.run(None, FEED)
    session.run(None, FEED)
    answer = looked()
    [shown] = answer["sessions"]
    assert shown["pid"] == os.getpid()
    assert shown["model"].endswith("detector.onnx")
    assert (shown["device"], shown["target"], shown["cores"], shown["class"]) == ("npu", "rk3588", [0, 1, 2], "low")
    assert (shown["done"], shown["failed"], shown["active"]) == (8, 1, 0)
    assert 0 < shown["latency_ms"] < 5000
    stats = session.stats()
    assert shown["npu_bytes"] == stats.npu_bytes == answer["npu_bytes"]
    assert shown["open_contexts"] == stats.open_contexts
    assert shown["idle_s"] < 20


def test_runs_on_shared_memory_count(session: ort_rknn.InferenceSession) -> None:
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", ort_rknn.OrtValue.ortvalue_from_numpy(FEED["x"], "npu"))
    binding.bind_output("y", "npu")
    for _ in range(3):
        session.run_with_iobinding(binding)
    del binding
    assert looked()["sessions"][0]["done"] == 3


def test_memory_that_was_given_back_is_not_shown(session: ort_rknn.InferenceSession) -> None:
    from ort_rknn.accounting.ledger import LEDGER

    session.run(None, FEED)
    assert looked()["npu_bytes"] > 100_000
    LEDGER.give_back_all()
    assert looked()["npu_bytes"] == 0
    session.run(None, FEED)
    assert looked()["npu_bytes"] > 100_000


def test_rate_and_latency_are_of_the_time_between(folder: Path) -> None:
    page = Page({"model": "m", "device": "npu"})
    for _ in range(4):
        page.count(0.5)
    [before] = read_sessions()
    page.count(0.1)
    page.count(0.3)
    [now] = read_sessions()
    shown = row(now, before)
    assert shown["latency_ms"] == 200
    assert shown["rate"] == pytest.approx(2 / (now.at - before.at), rel=0.01)
    assert row(now, None)["latency_ms"] == pytest.approx(400)
    assert row(now, None)["rate"] is None
    page.close()
    assert read_sessions() == []


_KILLED = """
import os, signal
from ort_rknn.accounting.published import Page
page = Page({"model": "killed"})
page.count(0.25)
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_pages_of_dead_processes_are_ignored_and_removed(folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _KILLED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    [left] = folder.iterdir()
    assert left.name == f"{ended.stdout.strip()}-1.session"
    assert looked() == {"sessions": [], "npu_bytes": 0}
    assert list(folder.iterdir()) == []


def test_a_process_number_that_was_given_again_is_another_process(folder: Path) -> None:
    page = Page({"model": "m"})
    [path] = folder.iterdir()
    content = path.read_bytes()
    facts = {**json.loads(content[:HEADER]), "started": (process_start() or 0) - 1}
    path.write_bytes(json.dumps(facts).encode().ljust(HEADER) + content[HEADER:])
    assert read_sessions() == []
    assert not path.exists()
    page.close()


def test_what_is_no_page_is_left_alone(folder: Path) -> None:
    own_folder()
    (folder / "1-1.session").write_bytes(b"{}")
    (folder / "2-1.session").write_bytes(b"x" * (HEADER + 8 * len(COUNTERS)))
    assert read_sessions() == []
    assert len(list(folder.iterdir())) == 2


def test_the_folder_is_private(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = own_folder()
    assert made == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert own_folder() is None, "others may look in"
    folder.rmdir()
    (tmp_path / "mine").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "mine")
    assert own_folder() is None, "somebody else's link"
    monkeypatch.setattr(runtime_folder.os, "getuid", lambda: 12345)
    folder.unlink()
    folder.mkdir(mode=0o700)
    assert own_folder() is None, "another user's"


def test_without_a_folder_sessions_run_all_the_same(folder: Path) -> None:
    folder.write_text("a file is in the way")
    page = Page({"model": "m"})
    page.count(1.0)
    page.show_memory(1, 1)
    page.close()
    assert folder.read_text() == "a file is in the way"


def test_a_child_of_a_fork_leaves_its_parent_s_page(folder: Path) -> None:
    page = Page({"model": "m"})
    child = os.fork()
    if not child:
        page.close()
        del page
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(read_sessions()) == 1
    page.close()


def test_the_table(folder: Path) -> None:
    page = Page({"model": "/models/detector.onnx", "device": "npu", "cores": [0, 1], "class": "high"})
    page.count(0.002)
    page.show_memory(12_300_000, 2)
    result = CliRunner().invoke(command, ["--once", "--interval", "0.05"])
    assert result.exit_code == 0
    assert "1 session(s), 12.3 MB of NPU memory" in result.output
    [line] = [line for line in result.output.splitlines() if "detector.onnx" in line]
    assert line.split()[1:4] == ["detector.onnx", "0,1", "high"]
    page.close()


@pytest.mark.parametrize(
    "facts",
    [
        {"model": "a/[/]\x1b[2J\u202e[red]" + "x" * 900, "class": "[/b]", "device": "\x1b]0;t\x07", "cores": [0]},
        {"model": None, "class": None, "device": None, "cores": []},
    ],
)
def test_names_of_others_are_shown_and_do_nothing(folder: Path, facts: dict[str, Any]) -> None:
    page = Page({**facts, "program": "p"})
    result = CliRunner().invoke(command, ["--once", "--interval", "0.05"])
    assert result.exit_code == 0, result.output
    assert "\x1b]" not in result.output
    assert "\u202e" not in result.output
    assert "1 session(s)" in result.output
    page.close()


@pytest.mark.parametrize(
    "facts", ["[" * 4000, '{"pid": "x"}', '{"pid": 1, "started": [], "namespace": 1, "session": {}}']
)
def test_pages_that_others_wrote_are_read_strictly(folder: Path, facts: str) -> None:
    own_folder()
    (folder / "1-1.session").write_bytes(facts.encode().ljust(HEADER) + bytes(8 * len(COUNTERS)))
    os.mkfifo(folder / "2-1.session")
    (folder / "3-1.session").symlink_to("/dev/zero")
    assert read_sessions() == []
