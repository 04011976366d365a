"""A conversion that lasts is announced once, then kept alive in logs; a short one is not."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from ort_rknn.opening import compile_notice
from ort_rknn.opening.compile_notice import CompileNotice, expected_seconds


class _Lines(logging.Handler):
    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.enough = threading.Event()
        self._wanted = wanted

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if len(self.lines) >= self._wanted:
            self.enough.set()


@pytest.fixture
def listen(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    def start(wanted: int) -> _Lines:
        handler = _Lines(wanted)
        logging.getLogger("ort_rknn").addHandler(handler)
        request.addfinalizer(lambda: logging.getLogger("ort_rknn").removeHandler(handler))
        return handler

    return start


def test_one_line_then_a_heartbeat(listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    model = tmp_path / "rec.onnx"
    model.write_bytes(b"x")
    heard = listen(3)
    with CompileNotice(str(model), "rk3588", patience=0.001, heartbeat=0.001) as notice:
        notice.report("compile", "npu_0", 1, 8)
        assert heard.enough.wait(20)
    assert heard.lines[0] == "compiling rec.onnx for rk3588, then it is cached; about 5 s (a guess by its size)"
    assert heard.lines[1].startswith("still compiling rec.onnx after")
    assert heard.lines[1].endswith("(compile 1 of 8: npu_0)")


def test_what_is_short_says_nothing(listen) -> None:  # type: ignore[no-untyped-def]
    heard = listen(1)
    with CompileNotice(b"x", "rk3588", patience=60) as notice:
        notice.report("compile")
    with CompileNotice(b"x", "rk3588", patience=0):
        pass  # from the cache: nothing was reported
    assert heard.lines == []


def test_another_process_is_named(listen) -> None:  # type: ignore[no-untyped-def]
    heard = listen(1)
    with CompileNotice(b"x", "rk3588", patience=0.001, heartbeat=60) as notice:
        notice.report("wait", "another process converts this model")
        assert heard.enough.wait(20)
    assert heard.lines[0].startswith("waiting for another process that compiles a model given as bytes for rk3588")


def test_the_guess_grows_with_the_weights_also_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_notice.platform, "machine", lambda: "x86_64")
    (tmp_path / "m.onnx").write_bytes(b"x" * 1000)
    small = expected_seconds(str(tmp_path / "m.onnx"))
    with (tmp_path / "m.onnx.data").open("wb") as weights:
        weights.truncate(100_000_000)
    assert small < 3
    assert expected_seconds(str(tmp_path / "m.onnx")) == pytest.approx(12, abs=0.1)
    assert expected_seconds(bytes(1000)) == small
