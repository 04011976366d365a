"""The cache: hits without toolkit and onnx, one conversion for all, nothing lost by crashes."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.parser import parse_graph

from ort_rknn_converters.cache import store
from ort_rknn_converters.cache.key import key_of
from ort_rknn_converters.cache.limit import limit
from ort_rknn_converters.cache.store import Cache, load_or_convert
from ort_rknn_converters.errors import ModelError, NotAllOnNpu, ToolkitFailed, ToolkitMissing
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.toolkit.setup import environment
from tests.helpers.compiled_models import sample
from tests.helpers.toolkits.scripted import ScriptedToolkit

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = ConvertOptions(min_gain=0)


def net(body: str = "y = Sigmoid (x)") -> onnx.ModelProto:
    graph = parse_graph(f"g (float[1,4] x) => (float[1,4] y) {{ {body} }}")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(net(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def toolkit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Set the version of the toolkit that seems to be installed."""

    def install(version: str | None) -> None:
        monkeypatch.setattr(environment, "toolkit_version", lambda: version)

    install("2.5.0")
    return install


class TestHits:
    def test_the_second_time_nothing_is_compiled(self, model: Path, there: Path) -> None:
        fake = ScriptedToolkit()
        first = load_or_convert(model, OPTIONS, cache_dir=there, compile=fake)
        second = load_or_convert(model, OPTIONS, cache_dir=there, compile=fake)
        assert first == second
        assert len(fake.requests) == 1
        assert second.npu_steps[0].code["rk3588"].path is not None

    def test_bytes_and_file_share_an_entry(self, model: Path, there: Path) -> None:
        fake = ScriptedToolkit()
        load_or_convert(model, OPTIONS, cache_dir=there, compile=fake)
        load_or_convert(model.read_bytes(), OPTIONS, cache_dir=there, compile=fake)
        assert len(fake.requests) == 1

    def test_a_hit_imports_neither_onnx_nor_onnxruntime(self, model: Path, there: Path) -> None:
        load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit())
        code = (
            "import sys; from ort_rknn_converters.cache.store import load_or_convert;"
            "from ort_rknn_converters.options import ConvertOptions;"
            f"c = load_or_convert({str(model)!r}, ConvertOptions(min_gain=0), cache_dir={str(there)!r});"
            "heavy = ('onnx', 'onnx_ir', 'onnxruntime', 'rich', 'filelock');"
            "print(len(c.npu_steps), [name for name in heavy if name in sys.modules])"
        )
        environ = os.environ | {"PYTHONPATH": "converters", "ORT_RKNN_TOOLKIT_PYTHON": "/nowhere"}
        done = subprocess.run([sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip() == "1 []", done.stderr

    def test_without_a_toolkit_any_entry_is_good(self, model: Path, there: Path, toolkit: Any) -> None:
        load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit())
        toolkit(None)
        assert load_or_convert(model, OPTIONS, cache_dir=there, compile=None).npu_steps

    def test_another_toolkit_converts_again(self, model: Path, there: Path, toolkit: Any) -> None:
        fake = ScriptedToolkit()
        for version in ("2.5.0", "2.6.0", "2.6.0"):
            toolkit(version)
            load_or_convert(model, OPTIONS, cache_dir=there, compile=fake)
        assert len(fake.requests) == 2
        assert len(Cache(there).entries()) == 1


class TestKey:
    def test_it_changes_with_what_changes_the_result(self, model: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.onnx"
        onnx.save(net("y = Tanh (x)"), other)
        keys = [
            key_of(model, OPTIONS),
            key_of(other, OPTIONS),
            key_of(model, ConvertOptions(min_gain=0, target="rk3576")),
            key_of(model, ConvertOptions(min_gain=0, cpu_ops=frozenset({"Relu"}))),
        ]
        assert len(set(keys)) == 4
        assert keys[0] == key_of(model, ConvertOptions(min_gain=0, jobs=4))

    @pytest.mark.parametrize("name", ["weights.bin", "wêights.bin", "w" * 200])
    def test_external_data_count(self, tmp_path: Path, name: str) -> None:
        proto = net("y = Mul (x, w)")
        proto.graph.initializer.append(numpy_helper.from_array(__import__("numpy").ones((1, 4), "float32"), "w"))
        onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location=name, size_threshold=0)
        before = key_of(tmp_path / "m.onnx", OPTIONS)
        data = bytearray((tmp_path / name).read_bytes())
        data[3] ^= 1
        (tmp_path / name).write_bytes(data)
        assert key_of(tmp_path / "m.onnx", OPTIONS) != before

    def test_odd_files(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            key_of(tmp_path / "none.onnx", OPTIONS)
        (tmp_path / "empty.onnx").touch()
        assert key_of(tmp_path / "empty.onnx", OPTIONS) == key_of(b"", OPTIONS)
        assert key_of(b"\x0a\x08location\x12", OPTIONS) != key_of(b"\x0a\x08location\x12\xff\xff\xff\xff\xff", OPTIONS)


class TestDamage:
    def damaged(self, there: Path, how: str) -> None:
        (folder,) = [entry for entry in (there / "models").iterdir() if entry.is_dir()]
        code = next(folder.glob("*.rknn"))
        if how == "code cut":
            code.write_bytes(code.read_bytes()[:-1])
        elif how == "code changed":
            code.write_bytes(code.read_bytes()[:-1] + b"\0")
        elif how == "code gone":
            code.unlink()
        elif how == "manifest":
            (folder / "manifest.json").write_text("{")
        elif how == "entry":
            (folder / "entry.json").write_text("[]")
        elif how == "entry gone":
            (folder / "entry.json").unlink()

    @pytest.mark.parametrize("how", ["code cut", "code changed", "code gone", "manifest", "entry", "entry gone"])
    def test_a_damaged_entry_is_made_again(self, model: Path, there: Path, how: str) -> None:
        fake = ScriptedToolkit()
        first = load_or_convert(model, OPTIONS, cache_dir=there, compile=fake)
        code = first.npu_steps[0].code["rk3588"].read()
        self.damaged(there, how)
        again = load_or_convert(model, OPTIONS, cache_dir=there, compile=fake)
        assert again.npu_steps[0].code["rk3588"].read() == code
        assert len(fake.requests) == 2
        assert len(list((there / "models").iterdir())) == 2  # the entry and its lock

    def test_left_overs_of_a_killed_process_are_removed(self, model: Path, there: Path) -> None:
        key = key_of(model, OPTIONS)
        for prefix in (".new", ".old"):
            (there / "models" / f"{prefix}-{key}").mkdir(parents=True)
            (there / "models" / f"{prefix}-{key}" / "x").touch()
        assert load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit()).npu_steps
        assert sorted(file.name for file in (there / "models").iterdir()) == [key, f"{key}.lock"]


class TestUnwritable:
    """It works all the same, and says so once."""

    @pytest.fixture(autouse=True)
    def _forget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "_warned", set())

    def test_no_folder_can_be_made(self, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        fake = ScriptedToolkit()
        (tmp_path / "file").touch()
        with caplog.at_level(logging.WARNING, "ort_rknn"):
            for _ in range(2):
                assert load_or_convert(model, OPTIONS, cache_dir=tmp_path / "file", compile=fake).npu_steps
        assert len(fake.requests) == 2
        assert [record.name for record in caplog.records] == ["ort_rknn"]
        assert "ORT_RKNN_CACHE_DIR" in caplog.text

    def test_a_full_disk(
        self, model: Path, there: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with caplog.at_level(logging.WARNING, "ort_rknn"):
            for _ in range(2):
                assert load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit()).npu_steps
        assert len(caplog.records) == 1
        assert "No space left on device" in caplog.text
        assert [file.suffix for file in (there / "models").iterdir()] == [".lock"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_read_only(self, model: Path, there: Path) -> None:
        there.mkdir()
        there.chmod(0o500)
        assert load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit()).npu_steps


class TestFailures:
    def test_a_hopeless_model_is_tried_once(self, there: Path, toolkit: Any) -> None:
        fake = ScriptedToolkit(crashes=frozenset({"Sigmoid"}))
        options = ConvertOptions(min_gain=0, npu_only=True)
        data = net().SerializeToString()
        with pytest.raises(NotAllOnNpu):
            load_or_convert(data, options, cache_dir=there, compile=fake)
        tried = len(fake.requests)
        with pytest.raises(NotAllOnNpu, match="cache clear"):
            load_or_convert(data, options, cache_dir=there, compile=fake)
        assert len(fake.requests) == tried
        toolkit("2.6.0")
        fake.crashes = frozenset()
        (there / "verdicts.json").unlink(missing_ok=True)
        assert load_or_convert(data, options, cache_dir=there, compile=fake).npu_steps

    def test_clear_forgets_it(self, there: Path) -> None:
        cache = Cache(there)
        with cache.lock("k"):
            cache.commit("k", ToolkitFailed("no", kind="memory"), model="m", target="rk3588", toolkit_version="2.5.0")
        with pytest.raises(ToolkitFailed, match=r"no \(remembered") as caught:
            cache.lookup("k", "2.5.0")
        assert caught.value.kind == "memory"
        assert [entry.failure for entry in cache.entries()] == ["no"]
        cache.clear()
        assert cache.lookup("k", "2.5.0") is None

    @pytest.mark.parametrize("error", [ToolkitMissing("get it"), KeyboardInterrupt(), RuntimeError("a bug")])
    def test_what_is_not_remembered(self, model: Path, there: Path, error: BaseException) -> None:
        with pytest.raises(type(error)):
            load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit(fails_with=error))
        assert not Cache(there).entries()
        assert load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit()).npu_steps

    def test_a_bad_model_is_not_remembered(self, there: Path) -> None:
        with pytest.raises(ModelError):
            load_or_convert(b"junk", OPTIONS, cache_dir=there, compile=ScriptedToolkit())
        assert not Cache(there).entries()


class TestSize:
    def fill(self, there: Path, count: int) -> Cache:
        cache = Cache(there)
        for number in range(count):
            key = f"k{number}"
            cache.folder.mkdir(parents=True, exist_ok=True)
            cache.commit(key, sample(), model=f"m{number}.onnx", target="rk3588", toolkit_version="2.5.0")
            os.utime(cache.folder / key / "entry.json", (1000 + number, 1000 + number))
        return cache

    def test_entries_tell_what_they_are(self, there: Path) -> None:
        found = self.fill(there, 2).entries()
        assert [(entry.key, entry.model, entry.target) for entry in found] == [
            ("k1", "m1.onnx", "rk3588"),
            ("k0", "m0.onnx", "rk3588"),
        ]
        assert found[0].size > 1000
        assert found[0].used == 1001

    def test_the_least_recently_used_goes_first(self, there: Path) -> None:
        cache = self.fill(there, 4)
        size = cache.entries()[0].size
        assert cache.lookup("k0", "2.5.0") is not None  # used now
        assert cache.prune(2 * size + 100) == pytest.approx(2 * size, rel=0.01)
        assert [entry.key for entry in cache.entries()] == ["k0", "k3"]
        assert cache.prune(10 * size) == 0
        cache.prune(0)
        assert not cache.entries()

    def test_an_entry_in_use_stays(self, there: Path) -> None:
        cache = self.fill(there, 2)
        cache.prune(0, keep="k0")
        assert [entry.key for entry in cache.entries()] == ["k0"]
        with cache.lock("k0"):
            assert cache.clear() == 0
        assert cache.clear() > 0

    def test_the_limit_is_a_size(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        for text, size in (("", 10 * 2**30), ("1000", 1000), ("2G", 2 * 10**9), ("1.5 MiB", 3 * 2**19), ("7kb", 7000)):
            monkeypatch.setenv("ORT_RKNN_CACHE_LIMIT", text)
            assert limit() == size
        monkeypatch.setenv("ORT_RKNN_CACHE_LIMIT", "much")
        assert limit() == 10 * 2**30
        assert "ORT_RKNN_CACHE_LIMIT is ignored: 'much' is not a size" in caplog.text

    def test_the_limit_holds_by_itself(self, model: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fill(there, 2)
        monkeypatch.setenv("ORT_RKNN_CACHE_LIMIT", "10")
        load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit())
        assert [entry.model for entry in Cache(there).entries()] == ["m.onnx"]

    def test_damaged_entries_are_listed_and_cleared(self, there: Path) -> None:
        cache = self.fill(there, 1)
        (cache.folder / "k0" / "entry.json").write_text("no json")
        assert [(entry.failure, entry.sound) for entry in cache.entries()] == [("damaged", False)]
        assert cache.clear() > 0
        assert not cache.entries()


def test_entry_files_are_plain_json(model: Path, there: Path) -> None:
    load_or_convert(model, OPTIONS, cache_dir=there, compile=ScriptedToolkit())
    folder = there / "models" / key_of(model, OPTIONS)
    facts = json.loads((folder / "entry.json").read_text())
    assert facts["model"] == "m.onnx"
    assert facts["failure"] is None
