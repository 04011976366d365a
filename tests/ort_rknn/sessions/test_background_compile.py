"""Compiling in the background: order, taking requests back, the child's end in every case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ort_rknn
from ort_rknn.sessions import background_compile
from ort_rknn.sessions.background_compile import Cancelled, CancelToken, compile_in_child, compile_later, usable_cache
from ort_rknn_converters.errors import ConvertError, ModelError, ToolkitMissing
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.toolkit.setup.environment import ToolkitPython
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import fake_compile

WAIT_S = 60
OPEN = {"device": "simulator", "min_gain": "0"}


def test_requests_are_done_in_order_one_at_a_time() -> None:
    done: list[int] = []
    ended = threading.Event()
    token = CancelToken()
    for number in range(5):
        compile_later(token, lambda _, number=number: done.append(number))  # type: ignore[misc]
    compile_later(token, lambda _: ended.set())
    assert ended.wait(WAIT_S)
    assert done == [0, 1, 2, 3, 4]


def test_a_cancelled_ticket_ends_its_child_and_starts_no_other() -> None:
    token = CancelToken()
    child = token.start(["sleep", "1000"], start_new_session=True)
    token.cancel()
    assert child.wait(WAIT_S) == -signal.SIGKILL
    token.cancel()
    with pytest.raises(Cancelled):
        token.start(["sleep", "1000"])


def test_without_the_toolkit_no_child_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> Any:
        raise ToolkitMissing("none")

    monkeypatch.setattr("ort_rknn_converters.toolkit.setup.environment.find_python", missing)
    monkeypatch.setattr(CancelToken, "start", lambda *_, **__: pytest.fail("a child was started"))
    with pytest.raises(ToolkitMissing):
        compile_in_child(model("two"), ConvertOptions(), str(tmp_path), CancelToken())


@pytest.fixture
def toolkit_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ort_rknn_converters.toolkit.setup.environment.find_python", lambda: None)


@pytest.mark.usefixtures("toolkit_found")
def test_an_error_in_the_child_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no input is called Q"):
        compile_in_child(model("two"), ConvertOptions(shapes={"Q": (1,)}), str(tmp_path), CancelToken())


class TestInThisProcess:
    """In hosts and frozen programs there is no Python to start."""

    @pytest.fixture(autouse=True)
    def no_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = ToolkitPython("/p/bin/python", "env", "2.5.0")
        monkeypatch.setattr("ort_rknn_converters.toolkit.setup.environment.find_python", lambda: found)
        monkeypatch.setattr("ort_rknn_converters.util.this_python.this_python", lambda: "")
        monkeypatch.setattr(CancelToken, "start", lambda *_, **__: pytest.fail("a process was started"))

    def test_it_compiles_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        how: list[dict[str, Any]] = []

        def compile(request: Any, **options: Any) -> Any:
            how.append(options)
            return fake_compile(request)

        monkeypatch.setattr("ort_rknn_converters.toolkit.compile.compile_segment", compile)
        made = compile_in_child(model("two"), ConvertOptions(min_gain=0), str(tmp_path), CancelToken())
        assert made.npu_steps
        assert how[0]["nice"] == 19

    def test_a_cancelled_ticket_ends_the_toolkit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        token = CancelToken()

        def compile(*_: Any, cancelled: threading.Event, **__: Any) -> Any:
            token.cancel()
            assert cancelled.is_set()
            raise KeyboardInterrupt

        monkeypatch.setattr("ort_rknn_converters.toolkit.compile.compile_segment", compile)
        with pytest.raises(Cancelled):
            compile_in_child(model("two"), ConvertOptions(min_gain=0), str(tmp_path), token)
        with pytest.raises(Cancelled):
            compile_in_child(model("two"), ConvertOptions(min_gain=0), str(tmp_path), token)


@pytest.mark.usefixtures("toolkit_found")
def test_a_child_that_dies_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_compile, "_START", "print('out of luck'); raise SystemExit(3)")
    with pytest.raises(ConvertError, match="ended with status 3: out of luck"):
        compile_in_child(model("two"), ConvertOptions(), str(tmp_path), CancelToken())


def test_a_cache_that_cannot_be_written_is_replaced_for_the_process(tmp_path: Path) -> None:
    assert usable_cache(str(tmp_path / "new")) == str(tmp_path / "new")
    (tmp_path / "file").write_text("")
    other = usable_cache(str(tmp_path / "file" / "cache"))
    assert Path(other).is_dir()
    assert usable_cache(str(tmp_path / "file" / "cache")) == other


@pytest.mark.toolkit
def test_a_session_compiles_in_a_child_and_the_next_finds_it(tmp_path: Path) -> None:
    feed = {"X": np.array([[1, 2], [3, -4], [5, 6]], np.float32)}
    providers = [("RKNNExecutionProvider", {**OPEN, "cache_dir": str(tmp_path)})]
    with ort_rknn.InferenceSession(model("dynamic"), providers=providers) as session:
        expected = session.run(None, feed)
        assert session.wait_compiled(WAIT_S)
        assert [state.state for state in session.shape_states] == ["ready"]
        assert session.plan.segments[0].rel_rms is not None
        assert np.array_equal(session.run(None, feed)[0], expected[0])
        assert session.stats().runs == 1
    with ort_rknn.InferenceSession(model("dynamic"), providers=providers) as second:
        assert np.array_equal(second.run(None, feed)[0], expected[0])
        assert second.stats().runs == 1


_PROGRAM = """
    import os, sys, time
    import numpy as np
    import ort_rknn
    from tests.helpers.ort_models import model

    providers = [("RKNNExecutionProvider", {"device": "simulator", "min_gain": 0, "cache_dir": sys.argv[1]})]
    session = ort_rknn.InferenceSession(model("dynamic"), providers=providers)
    session.run(None, {"X": np.ones((3, 2), np.float32)})
    token = session._rknn_native._variants._token
    while token._process is None:
        time.sleep(0.01)
    print(token._process.pid, flush=True)
    """


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.toolkit
@pytest.mark.parametrize(
    "end",
    ["pass", "os.kill(os.getpid(), 9)", "session.close(); input()", "del session; input()", "raise SystemExit(3)"],
)
def test_the_child_ends_with_the_session_or_the_program(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = textwrap.dedent(_PROGRAM) + end
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "cache")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        began = time.monotonic()
        _until(lambda: _gone(pid))
        assert time.monotonic() - began < 5
        program.communicate("\n", timeout=WAIT_S)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # a process of a process: nothing can be waited on


def test_a_program_that_ends_says_what_was_not_ready_and_leaves_no_folder(tmp_path: Path) -> None:
    program = """
        import threading
        from ort_rknn.sessions.background_compile import CancelToken, compile_later
        from ort_rknn_converters.util.temp_dirs import temporary

        begun = threading.Event()
        def work(token):
            with temporary("ort_rknn-background-"):
                child = token.start(["sleep", "1000"], start_new_session=True)
                begun.set()
                child.wait()

        token = CancelToken()
        for _ in range(3):
            compile_later(token, work)
        assert begun.wait(30)
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "3 shapes were not ready when the program ended, and the CPU ran them" in done.stderr
    assert "ORT_RKNN_COMPILE=load" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_was_made_is_not_said_to_be_lost() -> None:
    program = """
        import threading
        from ort_rknn.sessions.background_compile import CancelToken, compile_later

        token, done = CancelToken(), threading.Event()
        compile_later(token, lambda _: done.set())
        assert done.wait(30)
        import time
        from ort_rknn.sessions.background_compile import _queue
        while _queue._thread is not None:
            time.sleep(0.01)
        token.cancel()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
