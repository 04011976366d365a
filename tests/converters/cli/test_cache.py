"""``ort-rknn cache``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ort_rknn_converters.cache.store import Cache
from ort_rknn_converters.cli.cache import command
from ort_rknn_converters.errors import ToolkitFailed
from tests.helpers.compiled_models import sample


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORT_RKNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "150")
    return tmp_path


@pytest.fixture
def filled(folder: Path) -> Cache:
    cache = Cache(folder)
    cache.folder.mkdir()
    for number in range(3):
        cache.commit(f"k{number}", sample(), model=f"m{number}.onnx", target="rk3588", toolkit_version="2.5.0")
        os.utime(cache.folder / f"k{number}" / "entry.json", (1000 + number, 1000 + number))
    bad = ToolkitFailed("it crashes [sic]", kind="crashed")
    cache.commit("bad", bad, model="bad.onnx", target="rk3566", toolkit_version="2.5.0")
    return cache


def run(*arguments: Any) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


def test_path(folder: Path) -> None:
    assert run("path").output.strip() == str(folder)
    assert run("--dir", folder / "other", "path").output.strip() == str(folder / "other")


def test_an_empty_cache(folder: Path) -> None:
    assert "0 entries" in run("list").output
    assert run("clear").exit_code == 0
    assert run("prune", "--max-size", "1G").exit_code == 0


def test_list(filled: Cache) -> None:
    output = run("list").output
    for word in ("m0.onnx", "m2.onnx", "rk3588", "2.5.0", "compiled model", "failed: it crashes [sic]", "4 entries"):
        assert word in output


def test_list_as_json(filled: Cache) -> None:
    rows = json.loads(run("list", "--json").stdout)
    assert [row["model"] for row in rows] == ["bad.onnx", "m2.onnx", "m1.onnx", "m0.onnx"]


def test_clear_takes_verdicts_along_and_leaves_the_toolkit(filled: Cache, folder: Path) -> None:
    (folder / "verdicts.json").write_text("{}")
    (folder / "toolkit").mkdir()
    result = run("clear")
    assert "0 entries left" in result.output
    assert not filled.entries()
    assert not (folder / "verdicts.json").exists()
    assert (folder / "toolkit").is_dir()


def test_prune(filled: Cache) -> None:
    size = next(entry.size for entry in filled.entries() if entry.model == "m1.onnx")
    assert "2 entries left" in run("prune", "--max-size", f"{(size * 3 // 2) / 1000}k").output
    assert [entry.model for entry in filled.entries()] == ["bad.onnx", "m2.onnx"]


def test_prune_to_the_limit(filled: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "4 entries left" in run("prune").output
    monkeypatch.setenv("ORT_RKNN_CACHE_LIMIT", "0.001 kB")
    assert "of at most 1 bytes" in run("list").output
    assert "0 entries left" in run("prune").output


@pytest.mark.parametrize("text", ["much", "-1", "1T", ""])
def test_bad_sizes(text: str) -> None:
    result = run("prune", "--max-size", text)
    assert result.exit_code == 2
    assert "500M or 2G" in result.stderr


def test_path_says_what_lies_there(tmp_path: Path) -> None:
    for name, size in (("models/a/x", 2000), ("toolkit/env/y", 3_000_000), ("known.json", 10)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    result = CliRunner().invoke(command, ["--dir", str(tmp_path), "path"])
    assert result.stdout == f"{tmp_path}\n"
    assert result.stderr.splitlines() == [
        f"  compiled models: {tmp_path / 'models'} (2 kB)",
        f"  toolkit's private environment: {tmp_path / 'toolkit'} (3.0 MB)",
        f"  other: {tmp_path} (10 bytes)",
    ]
