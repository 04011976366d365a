"""Files of the cache are proven once, beside the work that opens them; what nobody opens is not hashed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import ort_rknn
from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file import proofs
from ort_rknn_converters.onnx_file.blobs import StoredBlob, digest
from tests.helpers.segment_models import cnn
from tests.helpers.toolkits.fake import fake_toolkit


def large(folder: Path, name: str) -> Path:
    file = folder / name
    file.write_bytes(name.encode() * (proofs.LARGE // len(name) + 1))
    return file


def test_large_onnx_is_opened_before_it_is_proven(tmp_path: Path) -> None:
    begun = proofs.proofs_refused()
    file = large(tmp_path, "good.onnx")
    assert StoredBlob(str(file), digest(file.read_bytes())).path == str(file)
    proofs.settle_proofs(begun)
    assert not proofs._unsettled


def test_sessions_that_open_together_are_both_refused(tmp_path: Path) -> None:
    first, second = proofs.proofs_refused(), proofs.proofs_refused()
    wrong = StoredBlob(str(large(tmp_path, "wrong.onnx")), digest(b"something else"))
    assert wrong.path
    for begun in (first, second):  # whichever comes first, the other one must not be handed out
        with pytest.raises(CompiledModelError, match=r"wrong\.onnx is damaged"):
            proofs.settle_proofs(begun)
    proofs.settle_proofs(proofs.proofs_refused())  # sessions that begin later have nothing to do with it


def test_compiled_code_is_proven_before_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CompiledModelError, match="damaged"):
        _ = StoredBlob(str(large(tmp_path, "code.rknn")), digest(b"something else")).path


def test_a_start_hashes_only_what_it_opens(tmp_path: Path) -> None:
    onnx.save(cnn(), tmp_path / "model.onnx")
    options = {"device": "simulator", "min_gain": 0, "compile": "load"}
    with fake_toolkit(tmp_path):
        for _ in range(2):
            proofs._digests.clear()
            providers = [("RKNNExecutionProvider", options)]
            session = ort_rknn.InferenceSession(str(tmp_path / "model.onnx"), providers=providers)
    assert session.get_providers()[0] == "RKNNExecutionProvider", session.plan
    hashed = {known[1] for known in proofs._digests}
    [rounded] = tmp_path.glob("models/*/npu_0.simulator-fp16-*.onnx")
    unused = [*tmp_path.glob("models/*/npu_0.onnx"), *tmp_path.glob("models/*/*.rknn")]
    assert rounded.stat().st_ino in hashed
    assert len(unused) == 2
    assert not hashed & {file.stat().st_ino for file in unused}
