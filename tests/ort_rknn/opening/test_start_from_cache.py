"""A later start of a session: from the cache, without the toolkit, without onnx, with the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers.segment_models import cnn
from tests.helpers.toolkits.fake import fake_toolkit

_START = """
import json, sys
import numpy as np
import onnxruntime, ort_rknn
before = set(sys.modules)
options = {"device": "simulator", "min_gain": 0, "compile": "load"}
session = ort_rknn.InferenceSession(sys.argv[1], providers=[("RKNNExecutionProvider", options)])
read = sorted(set(sys.modules) - before)
ours = [module for name, module in sys.modules.items() if name.startswith("ort_rknn")]
made = {made for module in ours for made in vars(module).values() if hasattr(made, "__dataclass_params__")}
generated = sorted(made.__name__ for made in made if isinstance(made, type) and made.__dataclass_params__.init)
x = np.load(sys.argv[2])
[y] = session.run(None, {"x": x})
names = ("onnx", "onnx_ir", "google.protobuf", "importlib.metadata", "ort_rknn_converters.pipeline.convert")
there = [name for name in names if name in sys.modules]
facts = {"there": there, "read": read, "generated": generated}
print(json.dumps({"providers": session.get_providers(), "y": y.tobytes().hex(), **facts}))
"""

_NOT_READ = (
    # of the standard library and what we depend on: 1 to 100 ms each
    *("asyncio", "concurrent.futures", "filelock", "importlib.metadata", "logging", "multiprocessing", "platformdirs"),
    *("shutil", "subprocess", "tempfile", "tomllib", "traceback", "zipfile"),
    # of ours: what makes compiled models, what other devices need, and what waits for its first use
    *(
        "ort_rknn_converters.quantize.calibration",
        "ort_rknn_converters.pipeline.convert",
        "ort_rknn_converters.compiled.epcontext_write",
    ),
    *(
        "rich.table",
        "ort_rknn_converters.rknn_format.reader",
        "ort_rknn_converters.toolkit.compile",
    ),
    *(
        "ort_rknn.sessions.background_compile",
        "ort_rknn.bench",
        "ort_rknn.opening.epcontext_options",
        "ort_rknn.devices.rknnrt.device",
        "ort_rknn.sessions.batch_dispatch",
    ),
    *(
        "ort_rknn.engine.job",
        "ort_rknn.engine.lanes.native",
        "ort_rknn.engine.lanes.watchdog",
        "ort_rknn.ort_types.iobinding",
    ),
    *(
        "ort_rknn.opening.open_dynamic",
        "ort_rknn.ort_types.profiling",
        "ort_rknn.api.streams",
        "ort_rknn.sessions.shape_variants",
    ),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is in the cache beside it, and a feed."""
    folder = tmp_path_factory.mktemp("start")
    onnx.save(cnn(), folder / "model.onnx")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32))
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def first(model: Path) -> bytes:
    """What the session that compiled the model gives."""
    import ort_rknn

    options = {"device": "simulator", "min_gain": 0, "compile": "load"}
    with fake_toolkit(model.parent):
        session = ort_rknn.InferenceSession(str(model), providers=[("RKNNExecutionProvider", options)])
    assert session.get_providers()[0] == "RKNNExecutionProvider"
    [y] = session.run(None, {"x": np.load(model.parent / "x.npy")})
    content: bytes = y.tobytes()
    return content


def start(model: Path) -> dict[str, Any]:
    found = subprocess.run(
        [sys.executable, "-c", _START, str(model), str(model.parent / "x.npy")],
        env=os.environ | {"PYTHONPATH": ".:converters", "ORT_RKNN_CACHE_DIR": str(model.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(found.stdout)
    assert answer["providers"][0] == "RKNNExecutionProvider", found.stderr
    return answer


def kept_file(model: Path) -> Path:
    [file] = model.parent.glob("models/*/npu_0.simulator-fp16-*.onnx")
    return file


def test_a_second_start_needs_no_onnx_and_gives_the_same_bits(model: Path, first: bytes) -> None:
    answer = start(model)
    assert answer["there"] == []
    assert bytes.fromhex(answer["y"]) == first


def test_a_second_start_reads_only_what_it_uses(model: Path, first: bytes) -> None:
    answer = start(model)
    assert {"ort_rknn.opening.create", "ort_rknn.devices.simulator"} <= {*answer["read"]}, (
        "the list below proves something"
    )
    assert sorted({*_NOT_READ} & {*answer["read"]}) == []


def test_a_second_start_generates_no_code(model: Path, first: bytes) -> None:
    assert start(model)["generated"] == [], "make values with ort_rknn_converters.util.frozen"


def test_what_was_rounded_counts_as_the_entrys_size(model: Path, first: bytes) -> None:
    from ort_rknn_converters.cache.store import Cache

    [entry] = Cache(model.parent).entries()
    assert entry.size == sum(file.stat().st_size for file in kept_file(model).parent.iterdir())


def test_a_changed_file_is_rounded_again(model: Path, first: bytes) -> None:
    file = kept_file(model)
    content = file.read_bytes()
    file.write_bytes(b"not what was written")
    answer = start(model)
    assert "onnx" in answer["there"]
    assert bytes.fromhex(answer["y"]) == first
    assert file.read_bytes() == content
    assert start(model)["there"] == []
