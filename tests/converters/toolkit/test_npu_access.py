"""What the aarch64 compiler would find of an NPU, on made-up machines; and what is made of a crash for want of one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ort_rknn_converters.errors import NpuNotOpened, ToolkitMissing
from ort_rknn_converters.toolkit import npu_access
from ort_rknn_converters.toolkit.failures import explain
from ort_rknn_converters.toolkit.npu_access import LAST_WORDS, WITHOUT_NPU, npu_obstacle
from ort_rknn_converters.toolkit.setup import install as setup
from ort_rknn_converters.toolkit.setup.environment import ToolkitPython, marker


def node(root: Path, name: str) -> Path:
    file = root / "dev" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def obstacle(root: Path) -> str:
    return npu_obstacle(root, "aarch64")


@pytest.mark.parametrize("machine", ["x86_64", "riscv64"])
def test_other_compilers_open_nothing(tmp_path: Path, machine: str) -> None:
    assert npu_obstacle(tmp_path, machine) == ""


def test_a_machine_without_nodes(tmp_path: Path) -> None:
    node(tmp_path, "dri/renderD129")
    said = obstacle(tmp_path)
    assert "there is neither /dev/rknpu nor /dev/dri/card*" in said
    assert "boot a kernel with the vendor's rknpu driver" in said
    assert f"{WITHOUT_NPU}=1" in said
    assert "convert --on user@pc" in said


def test_a_container_without_nodes(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert "--device /dev/dri" in obstacle(tmp_path)


@pytest.mark.parametrize("name", ["rknpu", "dri/card0", "dri/card7"])
def test_a_node_that_opens_is_believed(tmp_path: Path, name: str) -> None:
    node(tmp_path, name)
    assert obstacle(tmp_path) == ""


@pytest.mark.skipif(os.getuid() == 0, reason="root may open everything")
def test_no_permission(tmp_path: Path) -> None:
    node(tmp_path, "dri/card1").chmod(0)
    assert "no permission on /dev/dri/card1" in obstacle(tmp_path)
    assert "usermod -aG video" in obstacle(tmp_path)


def test_another_graphics_card_is_no_npu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node(tmp_path, "dri/card0")
    monkeypatch.setattr(npu_access, "_driver_of", lambda _: "virtio_gpu")
    assert "/dev/dri/card0 is virtio_gpu's" in obstacle(tmp_path)
    node(tmp_path, "rknpu")
    assert obstacle(tmp_path) == ""


def test_the_answer_in_its_place_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WITHOUT_NPU, "1")
    monkeypatch.setattr(npu_access, "answering_library", lambda: "")
    assert "the library that answers in the NPU's place is not there" in obstacle(tmp_path)
    monkeypatch.setattr(npu_access, "answering_library", lambda: "/x/npu_answers.so")
    assert obstacle(tmp_path) == ""
    monkeypatch.setenv(WITHOUT_NPU, "0")
    assert "there is neither" in obstacle(tmp_path)


def test_its_crash_is_the_machine_s_fault() -> None:
    error = explain(ToolkitPython("/p/python", "private", "2.5.0"), -signal.SIGSEGV, "build", {}, f"E {LAST_WORDS}\n")
    assert isinstance(error, NpuNotOpened)
    assert isinstance(error, ToolkitMissing)
    assert "opens the NPU even to compile" in str(error)


def test_an_installation_that_cannot_be_proven_is_kept_and_proven_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(setup, "_make_environment", lambda *_: None)
    monkeypatch.setattr(setup, "_fill", lambda *_: None)
    python = tmp_path / "toolkit" / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()

    def blind(_: str) -> str:
        raise NpuNotOpened("rknn-toolkit2 cannot compile on this machine: no NPU opens")

    made = setup.install(prove=blind)
    assert made.version == setup.TOOLKIT_VERSION
    assert "no NPU opens" in (marker() or {})["unproven"]
    proofs: list[str] = []

    def good(path: str) -> str:
        proofs.append(path)
        return setup.TOOLKIT_VERSION

    setup.install(prove=good)
    assert proofs == [str(python)]
    assert json.loads((tmp_path / "toolkit" / "toolkit.json").read_text())["unproven"] == ""
    setup.install(prove=good)
    assert len(proofs) == 1
