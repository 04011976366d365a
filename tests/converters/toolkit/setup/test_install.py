"""Making the private environment, and each way it can fail."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.toolkit.setup import environment, find_python
from ort_rknn_converters.toolkit.setup import install as module
from ort_rknn_converters.toolkit.setup.find_python import Interpreter, choose_interpreter, find_uv, probe
from ort_rknn_converters.toolkit.setup.install import InstallFailed
from ort_rknn_converters.toolkit.status import prove

install = partial(module.install, prove=prove)

Usage = namedtuple("Usage", "total used free")
DEAD_INDEX = "http://127.0.0.1:9/simple"  # nobody listens there


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(folder))
    monkeypatch.delenv("ORT_RKNN_TOOLKIT_PYTHON", raising=False)
    return folder


@pytest.fixture(scope="module")
def pip_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pip in it, of a Python the toolkit takes; made once because that takes seconds."""
    try:
        interpreter = choose_interpreter(None)
    except InstallFailed as error:
        pytest.skip(str(error).splitlines()[0])
    assert interpreter is not None
    folder = tmp_path_factory.mktemp("pip") / "env"
    subprocess.run([interpreter.path, "-m", "venv", str(folder)], check=True)
    return folder


def begun(cache: Path, use_uv: bool, pip_environment: Path) -> None:
    """Let the installation with pip continue from there."""
    if use_uv and find_uv() is None:
        pytest.skip("uv is not installed here")
    if not use_uv:
        (cache / "toolkit").mkdir(parents=True)
        (cache / "toolkit" / "env").symlink_to(pip_environment)


@pytest.mark.toolkit
@pytest.mark.timeout(600)
@pytest.mark.parametrize("use_uv", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["uv", "pip"])
def test_makes_an_environment_that_works(cache: Path, use_uv: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if use_uv and find_uv() is None:
        pytest.skip("uv is not installed here")
    lines: list[str] = []
    made = install(lines.append, use_uv=use_uv)
    assert (made.source, made.version) == ("private", "2.5.0")
    assert environment.find_python() == made
    assert module.size_on_disk(cache) < 320e6
    assert any("onnxruntime" in line for line in lines)
    (cache / "toolkit" / "toolkit.json").unlink()  # as if it had been interrupted before the proof
    lines.clear()
    assert install(lines.append, use_uv=use_uv) == made
    assert "continuing with the environment that is there" in lines
    monkeypatch.setattr(module, "_run", None)  # the third time there is nothing to do
    assert install(use_uv=use_uv) == made


@pytest.mark.parametrize("use_uv", [True, False], ids=["uv", "pip"])
def test_no_network(cache: Path, use_uv: bool, pip_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(cache, use_uv, pip_environment)
    for name, value in {
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "1",
        "UV_CACHE_DIR": str(cache / "uv"),
        "UV_HTTP_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InstallFailed, match=r"package index cannot be reached.*continues where it stopped"):
        install(use_uv=use_uv, index=DEAD_INDEX)
    assert environment.marker() is None
    with pytest.raises(ToolkitMissing):
        environment.find_python()


@pytest.mark.parametrize("use_uv", [True, False], ids=["uv", "pip"])
def test_no_wheel(
    cache: Path, use_uv: bool, pip_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(cache, use_uv, pip_environment)
    empty = tmp_path / "index"
    empty.mkdir()
    monkeypatch.setenv("UV_CACHE_DIR", str(cache / "uv"))
    with pytest.raises(InstallFailed, match=r"no rknn-toolkit2 2.5.0 .*Python 3.8 to 3.12 on Linux"):
        install(use_uv=use_uv, index=empty.as_uri())


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.platform, "machine", lambda: "riscv64")
    with pytest.raises(InstallFailed, match=r"Linux on x86_64 and aarch64 only, this is Linux riscv64"):
        install()


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 10**6))
    with pytest.raises(InstallFailed, match=r"the disk is full: .* needs 600 MB free"):
        install()


def test_a_disk_that_fills_up_on_the_way(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = "error: Failed to install\n  Caused by: failed to copy: No space left on device (os error 28)"
    found = module._explain(output, cache, "installing")
    assert str(found).startswith("the disk is full")
    assert "Caused by" in str(found)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_make_environment", full)
    with pytest.raises(InstallFailed, match="the disk is full"):
        install()


def test_an_unwritable_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", "/dev/null/cache")
    with pytest.raises(
        InstallFailed, match=r"/dev/null/cache/toolkit cannot be written \(Not a directory\)\. Set ORT_RKNN_CACHE_DIR"
    ):
        install()


def test_another_installer_at_work(cache: Path) -> None:
    (cache / "toolkit").mkdir(parents=True)
    lines: list[str] = []
    with FileLock(cache / "toolkit" / "install.lock"), pytest.raises(InstallFailed, match=r"held .*install.lock for 0"):
        install(lines.append, wait=0)
    assert lines == ["another installer is at work, waiting for it"]


def test_two_installers_do_the_work_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    waiting = threading.Event()
    calls: list[str] = []

    def fill(*_: object) -> None:
        calls.append("fill")
        begun.set()
        waiting.wait(30)

    def proven(_: object, directory: Path, progress: object) -> environment.ToolkitPython:
        environment.private_python().parent.mkdir(parents=True)
        environment.private_python().symlink_to(sys.executable)
        (directory / "toolkit.json").write_text(
            json.dumps({"version": module.TOOLKIT_VERSION, "requirements": module.REQUIREMENTS})
        )
        return environment.find_python()

    monkeypatch.setattr(module, "_make_environment", lambda *_: None)
    monkeypatch.setattr(module, "_fill", fill)
    monkeypatch.setattr(module, "_prove", proven)
    made: list[environment.ToolkitPython] = []
    first = threading.Thread(target=lambda: made.append(install()))
    first.start()
    assert begun.wait(30)
    made.append(install(lambda line: waiting.set() if "another installer" in line else None))
    first.join(30)
    assert calls == ["fill"]
    assert made[0] == made[1]


def test_an_environment_that_does_not_work_is_not_marked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_make_environment", lambda *_: None)
    monkeypatch.setattr(module, "_fill", lambda *_: None)
    with pytest.raises(InstallFailed, match=r"the new environment does not work: .*cannot be started.*--force"):
        install()
    assert not (cache / "toolkit" / "toolkit.json").exists()


def test_a_python_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InstallFailed, match="/nowhere/python is no Python that starts"):
        install(python="/nowhere/python")
    monkeypatch.setattr(find_python, "probe", lambda path, *_: Interpreter(path, (3, 13), True))
    with pytest.raises(InstallFailed, match=r"/some/python is Python 3.13, rknn-toolkit2 has wheels for Python 3.8 to"):
        install(python="/some/python")


def test_no_python_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_python, "probe", lambda path, *_: Interpreter(path, (3, 13), True))
    with pytest.raises(InstallFailed, match=r"no usable Python.*apt install python3.11-venv.*pip install uv"):
        choose_interpreter(None)
    monkeypatch.setattr(find_python, "_uv_python", lambda _: None)
    assert choose_interpreter(("uv",)) is None  # uv may fetch one


def test_another_python_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {sys.executable: (3, 13), "/bin/python3.11": (3, 11), "/bin/python3.10": (3, 10)}
    monkeypatch.setattr(shutil, "which", lambda name: name if name in versions else f"/bin/{name}")
    monkeypatch.setattr(
        find_python,
        "probe",
        lambda path, *_: Interpreter(path, versions[path], path.endswith("10")) if path in versions else None,
    )
    assert choose_interpreter(("uv",)) == Interpreter("/bin/python3.11", (3, 11), False)
    assert choose_interpreter(None) == Interpreter("/bin/python3.10", (3, 10), True)


def test_probe_asks_the_interpreter_itself(tmp_path: Path) -> None:
    found = probe(sys.executable)
    assert found is not None
    assert found.version == sys.version_info[:2]
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert probe(str(shim)) is None
