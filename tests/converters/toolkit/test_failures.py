"""The words for a child that did not deliver, and whether they say something of the model."""

from __future__ import annotations

import resource
import signal
from typing import Any

import pytest

from ort_rknn_converters.errors import ConvertError, ToolkitBroken, ToolkitFailed
from ort_rknn_converters.toolkit.failures import explain
from ort_rknn_converters.toolkit.setup.environment import Source, ToolkitPython


def explained(
    status: int, stage: str = "build", log: str = "", source: Source = "private", **result: Any
) -> ConvertError:
    return explain(ToolkitPython("/p/bin/python", source, "2.3.2"), status, stage, result, log)


@pytest.mark.parametrize("status", [-signal.SIGKILL, 128 + signal.SIGKILL, 256 - signal.SIGKILL])
@pytest.mark.parametrize("stage", ["", "import", "load", "build"])
def test_killed_is_memory_whoever_tells(status: int, stage: str) -> None:
    error = explained(status, stage)
    assert isinstance(error, ToolkitFailed)
    assert error.kind == "memory"
    assert error.passing
    assert "was killed" in str(error)
    assert "more memory" in str(error)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1, 40])
def test_what_others_send_is_no_crash(number: int) -> None:
    error = explained(-number)
    assert isinstance(error, ToolkitFailed)
    assert error.kind == "killed"
    assert error.passing


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_a_crash_is_a_fact(number: int) -> None:
    error = explained(-number)
    assert isinstance(error, ToolkitFailed)
    assert error.kind == "crashed"
    assert not error.passing


def test_a_crash_under_a_memory_limit_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 30, 1 << 30))
    error = explained(-signal.SIGSEGV)
    assert isinstance(error, ToolkitFailed)
    assert error.kind == "memory"


@pytest.mark.parametrize(
    "words",
    [
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 12.0 MiB for an array",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "libonnxruntime.so: failed to map segment from shared object: Cannot allocate memory",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 4: Resource temporarily unavailable",
        "RuntimeError: can't start new thread",
    ],
)
@pytest.mark.parametrize("stage", ["import", "build"])
def test_no_memory_in_many_words(words: str, stage: str) -> None:
    for error in (explained(1, stage, log=words), explained(0, stage, kind="refused", message=words)):
        assert isinstance(error, ToolkitFailed)
        assert error.kind == "memory"


def test_a_system_in_need() -> None:
    error = explained(0, message="OSError: [Errno 24] Too many open files: 'x'", kind="refused")
    assert isinstance(error, ToolkitFailed)
    assert error.passing
    assert "Too many open files" in str(error)


@pytest.mark.parametrize("words", ["OSError: [Errno 28] No space left on device", "Disk quota exceeded"])
def test_a_full_disk_is_not_the_models(words: str) -> None:
    error = explained(1, log=words)
    assert type(error) is ConvertError
    assert "no room to convert" in str(error)


@pytest.mark.parametrize(
    ("source", "cure"),
    [("private", "toolkit install --force"), ("env", "unset ORT_RKNN_TOOLKIT_PYTHON"), ("importable", "beside this")],
)
def test_one_that_does_not_start_is_not_called_missing(source: Source, cure: str) -> None:
    error = explained(1, "import", log="ImportError: numpy.core.multiarray failed to import", source=source)
    assert isinstance(error, ToolkitBroken)
    assert "does not start in /p/bin/python: ImportError: numpy.core.multiarray" in str(error)
    assert cure in str(error)
    assert "was not found" not in str(error)


def test_a_refusal_is_a_fact() -> None:
    error = explained(0, kind="refused", message="Traceback ...\nValueError: Unsupported op")
    assert isinstance(error, ToolkitFailed)
    assert error.kind == "refused"
    assert not error.passing
    assert str(error).endswith("ValueError: Unsupported op")
