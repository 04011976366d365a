"""The repository: names, opening once, closing idle models, files that change."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ort_rknn
from ort_rknn.remote.failures import Refusal
from ort_rknn.serving.repository import Entry, Repository
from tests.helpers.ort_models import model
from tests.helpers.serving import put_models


class Opener:
    """Opens sessions on the CPU, and keeps count."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, path: Path, priority: str) -> Any:
        assert self.go.wait(20)
        self.opened.append(path.name + priority)
        return ort_rknn.InferenceSession(str(path), providers=["CPUExecutionProvider"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_names(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.rknn", "c.rknn.onnx", "d.onnx", "d.rknn", "notes.txt", "a.onnx.data"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("._a.onnx", ".onnx", "..b.onnx"):  # what a copy from another system leaves
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "circle.onnx").symlink_to(tmp_path / "circle.onnx")
    (tmp_path / "nowhere.onnx").symlink_to(tmp_path / "nothing")
    repository = Repository(tmp_path, Opener())
    assert sorted(repository.files()) == ["a", "b", "c", "d.onnx", "d.rknn"]
    assert repository.find("c")[1].name == "c.rknn.onnx"
    assert repository.find("a.onnx") == ("a", tmp_path / "a.onnx")
    with pytest.raises(Refusal, match=r"several files are called 'd': ask for one of d.onnx, d.rknn"):
        repository.find("d")
    with pytest.raises(Refusal, match="there is no model 'x' in the served folder; there are: a, b"):
        repository.find("x")
    with pytest.raises(Refusal, match="has no version '2'"):
        repository.find("a", "2")


def test_a_file_that_comes_later(tmp_path: Path) -> None:
    repository = Repository(tmp_path, Opener())
    assert repository.index() == []
    put_models(tmp_path, "two")
    assert repository.index() == [Entry("two", "UNAVAILABLE", "not loaded; the first call loads it")]
    assert repository.is_ready("two", "")


def test_a_folder_that_is_away_for_a_moment_takes_no_open_model_along(tmp_path: Path) -> None:
    folder, away = put_models(tmp_path / "models", "two"), tmp_path / "away"
    clock = Clock()
    repository = Repository(folder, Opener(), clock=clock, idle=0)
    with repository.use("two", "", 20):
        pass
    folder.rename(away)
    clock.now += 10
    repository.close_idle()
    with repository.use("two", "", 20) as opened:
        assert opened.name == "two"
    assert repository.index() == [Entry("two", "READY")]
    away.rename(folder)
    (folder / "two.onnx").unlink()
    clock.now += 10
    with pytest.raises(Refusal, match="there is no model 'two'"):
        repository.find("two")
    repository.close()


def test_many_first_calls_open_once(tmp_path: Path) -> None:
    opener = Opener()
    opener.go.clear()
    repository = Repository(put_models(tmp_path, "two"), opener)

    def call(_: int) -> bool:
        with repository.use("two", "", 20) as opened:
            return opened.name == "two"

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, number) for number in range(8)]
        time.sleep(0.05)
        assert repository.index()[0].state == "LOADING"
        opener.go.set()
        assert all(one.result(20) for one in calls)
    assert opener.opened == ["two.onnx"]
    repository.close()


def test_an_opening_that_takes_too_long_goes_on(tmp_path: Path) -> None:
    opener = Opener()
    opener.go.clear()
    repository = Repository(put_models(tmp_path, "two"), opener)
    with pytest.raises(Refusal, match="is still being opened") as refused, repository.use("two", "", 0.05):
        pass
    assert refused.value.failure.code == "DEADLINE_EXCEEDED"
    opener.go.set()
    with repository.use("two", "", 20):
        assert repository.index()[0].state == "READY"
    repository.close()


def test_idle_models_are_closed_and_those_in_use_are_not(tmp_path: Path) -> None:
    opener, clock = Opener(), Clock()
    put_models(tmp_path, "two", "half", "int8")
    repository = Repository(tmp_path, opener, idle=300, keep=frozenset({"half"}), clock=clock)
    clock.now = 1.0
    for name in ("two", "half"):
        with repository.use(name, "", 20):
            pass
    with repository.use("int8", "", 20):
        clock.now = 302.0
        repository.close_idle()
        assert {entry.name for entry in repository.index() if entry.state == "READY"} == {"half", "int8"}
    repository.close_idle()
    assert len(repository.open_models()) == 2  # int8 has just been used
    with repository.use("two", "", 20) as opened:
        assert opened.session("").run(None, {"A": [[1, 2]] * 3, "B": [[1, 2]] * 3})
    assert opener.opened.count("two.onnx") == 2
    repository.close()


def test_unloading_lets_calls_end_first(tmp_path: Path) -> None:
    repository = Repository(put_models(tmp_path, "two"), Opener())
    with repository.use("two", "", 20) as opened:
        repository.unload("two")
        assert repository.open_models() == []
        assert opened.session("").get_inputs()
    with pytest.raises(ort_rknn.SessionClosed):
        opened.session("").run(None, {})


def test_loading_again_reads_the_file_again(tmp_path: Path) -> None:
    repository = Repository(put_models(tmp_path, "two"), Opener())
    repository.load("two", 20)
    (tmp_path / "two.onnx").write_bytes(model("half"))
    repository.load("two", 20)
    with repository.use("two", "", 20) as opened:
        assert [one["datatype"] for one in opened.metadata()["inputs"]] == ["FP16"]
    repository.close()


def test_a_file_that_cannot_be_opened_is_tried_again_when_it_changed(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "two.onnx").write_bytes(b"garbage")
    opener = Opener()
    repository = Repository(tmp_path, opener, clock=clock)
    for _ in range(3):
        with pytest.raises(Refusal, match="INVALID_PROTOBUF") as refused, repository.use("two", "", 20):
            pass
        assert refused.value.failure.kind == "InvalidProtobuf"
    assert opener.opened == ["two.onnx"]
    assert not repository.is_ready("two", "")
    put_models(tmp_path, "two")
    with repository.use("two", "", 20):
        assert repository.is_ready("two", "")
    repository.close()


def test_a_class_of_calls_has_a_session_of_its_own(tmp_path: Path) -> None:
    opener = Opener()
    repository = Repository(put_models(tmp_path, "two"), opener)
    with repository.use("two", "", 20) as opened:
        assert opened.session("high") is opened.session("high") is not opened.session("")
    assert opener.opened == ["two.onnx", "two.onnxhigh"]
    repository.close()
    assert repository.open_models() == []
    with pytest.raises(Refusal, match="going down"), repository.use("two", "", 20):
        pass
