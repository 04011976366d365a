"""RapidOCR as a service, unmodified: pages of many sizes, on the CPU until their shapes are compiled for the NPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.example_programs import COMMAND, INSTALLED, OURS, PYTHON, environment, installed

pytestmark = [pytest.mark.slow, pytest.mark.toolkit, pytest.mark.timeout(1800)]

PAGES = ("TICKET", "NOTICE", "POSTER")
SOON_S = 10.0
"""A page takes one or two seconds on the CPU, compiling its shapes a minute."""


@dataclass(frozen=True)
class Reading:
    """What the service said of a page.

    Attributes:
        text: The lines.
        seconds: How long it took.
    """

    text: tuple[str, ...]
    seconds: float


class Service:
    """The program at work."""

    def __init__(self, process: subprocess.Popen[str], pipe: Path) -> None:
        self.process = process
        self._pipe = pipe

    def read(self, name: str) -> Reading:
        """Have a page read."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(name, file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return Reading(tuple(answer["text"]), answer["seconds"])

    def sessions(self, number: signal.Signals = signal.SIGUSR1) -> list[dict[str, Any]]:
        """The three sessions as they are; with SIGUSR2, when nothing compiles any more."""
        self.process.send_signal(number)
        rows = json.loads(self._pipe.read_text(encoding="utf-8"))
        own = [row for row in rows if row["class"] == OURS and "site-packages" in row["model"]]
        assert len(own) == 3
        return own

    def end(self) -> float:
        """Let the program come to its end; seconds until it is gone."""
        began = time.monotonic()
        self.process.communicate(timeout=SOON_S)
        assert self.process.returncode == 0
        return time.monotonic() - began


Start = Callable[..., Service]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that is empty in the beginning."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    from ort_rknn_converters.toolkit.setup.environment import find_python

    program = installed("rapidocr-service")
    pipe = tmp_path / "asked"
    os.mkfifo(pipe)
    processes = []

    def begin(*front: str, cache: Path | None = None, **variables: str) -> Service:
        ours = {
            "ORT_RKNN_PROMOTE_CPU": "1",
            "ORT_RKNN_DEVICE": "simulator",
            "ORT_RKNN_CACHE_DIR": str(cache),
            "ORT_RKNN_TOOLKIT_PYTHON": find_python().python,
        }
        with (tmp_path / "log.txt").open("w") as log:
            process = subprocess.Popen(
                [str(PYTHON), *front, *program.command],
                env=environment(WITNESS_ASKED=str(pipe), TMPDIR=str(tmp_path), **(ours if front else {}), **variables),
                cwd=tmp_path,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        processes.append(process)
        return Service(process, pipe)

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """What onnxruntime reads."""
    program = installed("rapidocr-service")
    done = subprocess.run(
        [str(PYTHON), *program.command],
        input="\n".join([*PAGES, "LABEL"]),
        env=environment(),
        cwd=tmp_path_factory.mktemp("plain"),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: tuple(answer["text"]) for name, answer in zip([*PAGES, "LABEL"], answers, strict=True)}


def states(sessions: list[dict[str, Any]]) -> list[str]:
    return [shape["state"] for session in sessions for shape in session["shapes"]]


def test_pages_of_many_sizes(start: Start, expected: dict[str, tuple[str, ...]], kept: Path) -> None:
    service = start(*COMMAND, cache=kept)
    for name in PAGES:
        page = service.read(name)
        assert page.text == expected[name]
        assert page.seconds < SOON_S
    first = service.sessions()
    assert len(states(first)) == 8
    assert states(first).count("ready") <= 1, "this was to be seen while shapes are compiled"
    assert service.read(PAGES[0]).text == expected[PAGES[0]]

    ready = service.sessions(signal.SIGUSR2)
    assert set(states(ready)) == {"ready"}, [session["plan"] for session in ready]
    before = [session["runs"] for session in ready]
    assert [service.read(name).text for name in PAGES] == [expected[name] for name in PAGES]
    after = [session["runs"] for session in service.sessions()]
    assert [now - then for now, then in zip(after, before, strict=True)] == [3, 3, 3]
    for session in ready:
        assert session["providers"][0] == "RKNNExecutionProvider"
        assert "on the NPU" in session["plan"]
        assert all(shape["words"] in session["plan"] for shape in session["shapes"])
    service.end()


def test_through_install_the_cache_is_found_and_a_new_page_comes_in(
    start: Start, expected: dict[str, tuple[str, ...]], kept: Path
) -> None:
    service = start(*INSTALLED, cache=kept)
    assert service.read("POSTER").text == expected["POSTER"]
    assert [session["runs"] for session in service.sessions()] == [1, 1, 1], "its shapes were compiled before"
    assert service.read("LABEL").text == expected["LABEL"]
    assert {"waiting", "compiling"} & set(states(service.sessions()))
    assert set(states(service.sessions(signal.SIGUSR2))) == {"ready"}
    assert service.read("LABEL").text == expected["LABEL"]
    assert sum(session["runs"] for session in service.sessions()) == 7, "3 pages, LABEL's first only with known shapes"
    service.end()


def test_no_more_shapes_than_wanted(
    start: Start, expected: dict[str, tuple[str, ...]], kept: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("max_shapes = 1\n", encoding="utf-8")
    service = start(*COMMAND, cache=kept, ORT_RKNN_CONFIG=str(config))
    for name in PAGES:
        assert service.read(name).text == expected[name]
    for session in service.sessions(signal.SIGUSR2):
        assert [shape["state"] for shape in session["shapes"]] == ["ready"]
        assert "more on the CPU: max_shapes is 1" in session["plan"]
    service.end()


def test_the_end_of_the_program_ends_the_compiler(
    start: Start, expected: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    service = start(*COMMAND, cache=tmp_path / "cache")
    assert service.read("TICKET").text == expected["TICKET"]
    children = _children(service.process.pid)
    assert children, "a shape was to be compiled"
    assert service.end() < SOON_S / 2
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert not list(tmp_path.glob("ort_rknn-*")), "temporary files"
    assert {path.suffix for path in (tmp_path / "cache" / "models").iterdir()} <= {".lock"}, "half an entry"


def _children(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(stat.parent.name))
    return [*found, *(below for child in found for below in _children(child))]
