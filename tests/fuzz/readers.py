"""Every reader of what comes from a disk, each as a function of bytes that raises our own errors or nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx

from tests.fuzz.reader import Reader
from tests.fuzz.wire_readers import wire_readers
from tests.helpers.compiled_models import sample

__all__ = ["Reader", "readers"]

ROOT = Path(__file__).resolve().parents[2]


def _compiled(data: bytes, _: Path) -> None:
    from ort_rknn_converters.compiled.bundle import Bundle
    from ort_rknn_converters.compiled.model import CompiledModel, is_compiled
    from ort_rknn_converters.onnx_file.protobuf_wire import is_bundle

    is_compiled(data)
    if is_bundle(data):
        for variant in Bundle.load(data).variants:
            variant.load()
    else:
        str(CompiledModel.load(data).plan)


def _rknn(data: bytes, folder: Path) -> None:
    from ort_rknn.devices.segment_checks import facts_of
    from ort_rknn_converters.compiled.bare_rknn import load_bare, open_stub, shape_sets
    from ort_rknn_converters.onnx_file.blobs import BytesBlob
    from ort_rknn_converters.rknn_format.reader import is_dynamic

    facts_of(BytesBlob(data))
    is_dynamic(data)
    shape_sets(data)
    load_bare(data)
    open_stub(data)


def _onnx(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.graph import onnx_graph
    from ort_rknn_converters.graph.validate import validate_and_sort

    (folder / "model.onnx").write_bytes(data)
    validate_and_sort(onnx_graph.load(folder / "model.onnx"))


def _entry_file(name: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> None:
        from ort_rknn_converters.cache.store import Cache

        cache = Cache(folder)
        entry = cache.folder / "k"
        if not entry.exists():
            with cache.lock("k"):
                cache.commit("k", sample(), model="m", target="rk3588", toolkit_version="2.5.0")
        file = entry / name
        sound = file.read_bytes()
        try:
            file.write_bytes(data)
            cache.lookup("k", "2.5.0")
            cache.entries()
        finally:
            file.write_bytes(sound)

    return read


def _pause(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.cache.pause import Pauses

    (folder / "paused" / "k").mkdir(parents=True, exist_ok=True)
    (folder / "paused" / "k" / "pause.json").write_bytes(data)
    Pauses(folder, "t").enforce("k")


def _verdicts(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.compile.known_failures import KnownFailures
    from ort_rknn_converters.graph import onnx_graph
    from ort_rknn_converters.options import ConvertOptions
    from ort_rknn_converters.util.user_dirs import KNOWN_FAILURES

    (folder / KNOWN_FAILURES).write_bytes(data)
    model = onnx_graph.load(onnx.ModelProto.FromString(_small_onnx()))
    KnownFailures(folder, ConvertOptions(), "2.5.0").recall(model)


def _options(suffix: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> None:
        from ort_rknn_converters.options import ConvertOptions
        from ort_rknn_converters.options_file import read_options

        (folder / f"o{suffix}").write_bytes(data)
        found = read_options(folder / f"o{suffix}")
        found.pop("shapes", None)  # several sets there, one here
        ConvertOptions.of(**found)

    return read


def _config(data: bytes, folder: Path) -> None:
    from ort_rknn.options.config_file import _parse

    (folder / "config.toml").write_bytes(data)
    _parse(folder / "config.toml")


def _costs(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.partition.cost_profile import CostProfile

    (folder / "cost.json").write_bytes(data)
    CostProfile.load(folder / "cost.json")


def _answer(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.toolkit.compile import _answer as read

    (folder / "result.json").write_bytes(data)
    read(folder)


def _job(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.cache.child_main import _JOB, _options
    from ort_rknn_converters.util.plain_data import parse_json

    _options(parse_json(data, _JOB)["options"], folder)


def _array(data: bytes, folder: Path) -> None:
    from ort_rknn_converters.array_files import read_array, read_arrays

    (folder / "a").write_bytes(data)
    (read_arrays if data[:2] == b"PK" else read_array)(folder / "a")


def _report(data: bytes, folder: Path) -> None:
    from ort_rknn_conformance.report import json_report, markdown, page
    from ort_rknn_conformance.report.document import Document

    (folder / "r.json").write_bytes(data)
    _, results = json_report.read(folder / "r.json")
    document = Document("t", json.loads(_report_seed()), tuple(results), 0.0)
    page.render(document)
    markdown.render(document)


def _small_onnx() -> bytes:
    from onnx import helper, numpy_helper
    from onnx.parser import parse_graph

    graph = parse_graph("g (float[1,4] x) => (float[1,4] y) { c = Relu (x) y = Add (c, w) }")
    graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    graph.sparse_initializer.add().values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    graph.sparse_initializer[0].indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "si"))
    graph.sparse_initializer[0].dims.append(4)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _entry_seed(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        from ort_rknn_converters.cache.store import Cache

        cache = Cache(Path(folder))
        with cache.lock("k"):
            cache.commit("k", sample(), model="m", target="rk3588", toolkit_version="2.5.0")
        return (cache.folder / "k" / name).read_bytes()


def _bundle_seed() -> bytes:
    from ort_rknn_converters.compiled.bundle import Bundle, Variant

    with tempfile.TemporaryDirectory() as folder:
        one, other = Variant.of({"x": (1,)}, sample()), Variant.of({"x": (2,)}, sample())
        return Bundle((one, other)).save(Path(folder) / "b.onnx")[0].read_bytes()


def _npz_seed() -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        np.save(path / "a.npy", np.ones((2, 3), np.float32))
        np.savez_compressed(path / "a.npz", a=np.ones((2, 3), np.float32), b=np.zeros(4, np.int64))
        return (path / "a.npy").read_bytes(), (path / "a.npz").read_bytes()


@lru_cache
def _report_seed() -> bytes:
    from tests.helpers.reports import document, model_result

    whole = document(model_result())
    rows = [result.to_dict() for result in whole.results]
    return json.dumps({"format": 1, **whole.head, "results": rows}).encode()


_FAILURE = {"class": "ToolkitFailed", "message": "no", "kind": "refused"}
_PAUSE = {"tries": 2, "since": 1.0, "until": 2e10, "failure": _FAILURE, "toolkit": "t"}
_COST = {
    "format": 1,
    "target": "rk3588",
    "where": "hardware",
    "board": None,
    "runtime": "2.3",
    "driver": "0.9",
    "written": "now",
    "operators": [],
    "transfers": [{"way": "inputs_set", "dtype": "uint8", "bytes": 1, "ms": 1.0, "runs": 1}],
}
_RESULT = {
    "ok": True,
    "stage": "simulate",
    "seconds": {"build": 1.0},
    "peak_rss": 1,
    "version": "2.5.0",
    "inputs": [{"name": "x", "dims": [1, 4]}],
    "outputs": [],
    "answers": [{"y": "outputs/0_0.npy"}],
    "stand_ins": ["torch"],
    "analysis": [],
}
_OPTIONS = {"target": "rk3588", "cpu_ops": ["Relu"], "shapes": {"x": [1, 4]}, "values": {"r": [1.0]}, "min_gain": 0.5}
_TOML = b'target = "rk3588"\ncpu_ops = ["Relu"]\nmin_gain = 0.5\n[shapes]\nx = [1, 4]\n'


def _text(value: object) -> bytes:
    return json.dumps(value).encode()


def _readers() -> Iterator[Reader]:
    rknn = tuple(file.read_bytes() for file in sorted((ROOT / "tests" / "data" / "rknn").glob("*.rknn")))
    yield Reader("compiled model", _compiled, (sample().to_bytes(), _bundle_seed()))
    yield Reader(".rknn file", _rknn, rknn)
    yield Reader("ONNX model", _onnx, (_small_onnx(), sample().to_bytes()))
    for name in ("manifest.json", "entry.json"):
        yield Reader(f"cache: {name}", _entry_file(name), (_entry_seed(name),))
    yield Reader(
        "cache: failure",
        _entry_file("entry.json"),
        (_text({**json.loads(_entry_seed("entry.json")), "failure": _FAILURE}),),
    )
    yield Reader("cache: pause.json", _pause, (_text(_PAUSE),))
    verdicts = {"format": 1, "2.5.0": {"rk3588/fp16/3/converter 1": {"Relu-0": "wrong"}}}
    yield Reader("cache: verdicts.json", _verdicts, (_text(verdicts),))
    yield Reader("options as JSON", _options(".json"), (_text(_OPTIONS),))
    yield Reader("options as TOML", _options(".toml"), (_TOML,))
    yield Reader("configuration", _config, (_TOML,))
    yield Reader("cost profile", _costs, (_text(_COST),), (ValueError, OSError))
    yield Reader("toolkit's answer", _answer, (_text(_RESULT),))
    job = {"model": None, "options": _OPTIONS, "cache_dir": None, "parent": 1}
    yield Reader("background job", _job, (_text(job),), (ValueError, OSError))
    yield Reader("arrays", _array, _npz_seed(), (ValueError, OSError))
    from ort_rknn_conformance.case import CaseError

    yield Reader("conformance report", _report, (_report_seed(),), (CaseError,))


@contextmanager
def readers() -> Iterator[tuple[Reader, ...]]:
    """All of them, for a ``with`` block."""
    yield (*_readers(), *wire_readers())
