"""The cache among processes: one conversion for all of them, and nothing lost when they are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import onnx
import pytest
from onnx import helper
from onnx.parser import parse_graph

from ort_rknn_converters.cache.key import key_of
from ort_rknn_converters.cache.store import Cache, load_or_convert
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.toolkit.setup import environment
from tests.helpers.compiled_models import sample
from tests.helpers.toolkits.scripted import counting

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = ConvertOptions(min_gain=0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    graph = parse_graph("g (float[1,4] x) => (float[1,4] y) { y = Sigmoid (x) }")
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "toolkit_version", lambda: "2.5.0")


_WORKER = """
import sys
from pathlib import Path
from unittest import mock
from ort_rknn_converters import options
from ort_rknn_converters.cache import store
from tests.helpers.toolkits.scripted import counting
from ort_rknn_converters.toolkit.setup import environment
environment.toolkit_version = lambda: "2.5.0"
model, there, counts, seconds = sys.argv[1:]
compile = counting(Path(counts), float(seconds))
found = store.load_or_convert(model, options.ConvertOptions(min_gain=0), cache_dir=there, compile=compile)
print(len(found.npu_steps[0].code["rk3588"].read()), flush=True)
"""


_WRITER = """
import sys
from pathlib import Path
from ort_rknn_converters.cache.store import Cache
from ort_rknn_converters.compiled.model import CompiledModel
compiled, cache = CompiledModel.load_folder(sys.argv[1]), Cache(Path(sys.argv[2]))
print(flush=True)
while True:
    with cache.lock("k"):
        cache.commit("k", compiled, model="m", target="rk3588", toolkit_version="2.5.0")
"""


def start(model: Path, there: Path, counts: Path, seconds: float) -> subprocess.Popen[str]:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(["converters", "."])}
    arguments = [sys.executable, "-c", _WORKER, str(model), str(there), str(counts), str(seconds)]
    return subprocess.Popen(arguments, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_eight_open_the_same_model_and_one_converts(model: Path, there: Path, tmp_path: Path) -> None:
    (tmp_path / "counts").mkdir()
    processes = [start(model, there, tmp_path / "counts", 0.5) for _ in range(8)]
    answers = {process.communicate(timeout=100)[0] for process in processes}
    assert answers == {"36\n"}
    assert len(list((tmp_path / "counts").iterdir())) == 1


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_kill_9_during_a_conversion_leaves_it_usable(model: Path, there: Path, tmp_path: Path, kills: int) -> None:
    (tmp_path / "counts").mkdir()
    began = time.monotonic()
    assert start(model, there, tmp_path / "counts", 0.1).communicate(timeout=60)[0] == "36\n"
    whole = time.monotonic() - began
    moments = random.Random(0)
    for _ in range(kills):
        Cache(there).clear()
        process = start(model, there, tmp_path / "counts", 0.1)
        try:
            process.wait(moments.uniform(0.3, 1.05) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        found = load_or_convert(model, OPTIONS, cache_dir=there, compile=counting(tmp_path / "counts"))
        assert isinstance(found, CompiledModel)
        assert len(found.npu_steps[0].code["rk3588"].read()) == 36
        left = sorted(file.name for file in (there / "models").iterdir())
        assert left == [key_of(model, OPTIONS), f"{key_of(model, OPTIONS)}.lock"]


@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_kill_9_while_writing_leaves_all_or_nothing(there: Path, tmp_path: Path, kills: int) -> None:
    whole = sample()
    whole.save_folder(tmp_path / "pieces")
    environ = os.environ | {"PYTHONPATH": "converters"}
    moments = random.Random(0)
    found = 0
    for _ in range(kills):
        arguments = [sys.executable, "-c", _WRITER, str(tmp_path / "pieces"), str(there)]
        with subprocess.Popen(arguments, env=environ, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()  # it began to write, and writes the same entry again and again
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, 0.3))
            process.kill()
        entry = Cache(there).lookup("k", "2.5.0")
        assert entry is None or entry == whole
        found += entry is not None
    assert found
    with Cache(there).lock("k"):
        Cache(there).commit("k", whole, model="m", target="rk3588", toolkit_version="2.5.0")
    assert sorted(file.name for file in (there / "models").iterdir()) == ["k", "k.lock"]


def test_the_lock_tells_that_it_waits(model: Path, there: Path) -> None:
    cache = Cache(there)
    waited: list[bool] = []
    with cache.lock("k"):

        def other() -> None:
            with cache.lock("k", lambda: waited.append(True)):
                waited.append(False)

        thread = threading.Thread(target=other)
        thread.start()
        while not waited:
            thread.join(0.01)
        assert waited == [True]
    thread.join(10)
    assert waited == [True, False]
