"""A cache entry that is damaged is made again, whatever is wrong with it; size and time stamp prove nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import ort_rknn
from ort_rknn_converters.onnx_file import proofs
from tests.helpers.segment_models import cnn
from tests.helpers.toolkits.fake import fake_toolkit

OPTIONS = {"device": "simulator", "min_gain": 0, "compile": "load"}
X = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)


def run(folder: Path) -> bytes:
    with fake_toolkit(folder):
        session = ort_rknn.InferenceSession(str(folder / "model.onnx"), providers=[("RKNNExecutionProvider", OPTIONS)])
    assert session.get_providers()[0] == "RKNNExecutionProvider", session.plan
    [y] = session.run(None, {"x": X})
    return bytes(y.tobytes())


def flip(file: Path) -> None:
    """Change one byte; length and time stamp stay."""
    stamp = file.stat().st_mtime_ns
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stamp, stamp))


def forget_digests() -> None:
    """As in another process."""
    proofs._digests.clear()


def linked(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()
    (file.parent.parent / "elsewhere").write_bytes(content)
    file.symlink_to(file.parent.parent / "elsewhere")


def replaced(by: str) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        file.unlink()
        file.write_text(by)

    return damage


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, flip) for name in ("npu_0.onnx", "npu_0.simulator-fp16-*.onnx", "shell.onnx", "cpu_*.onnx")),
        *((name, linked) for name in ("manifest.json", "entry.json")),
        *(
            (name, replaced(text))
            for name in ("manifest.json", "entry.json")
            for text in ("", "[]", "{}", "[" * 50_000, '{"format": []}', '{"failure": {"class": "ToolkitFailed"}}')
        ),
    ],
)
def test_damage_is_found_and_made_good(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    onnx.save(cnn(), tmp_path / "model.onnx")
    right = run(tmp_path)
    files = list(tmp_path.glob(f"models/*/{name}"))
    for file in files:
        damage(file)
    forget_digests()
    assert run(tmp_path) == right
    if "simulator" not in name:  # a derived file that is right needs its source no more
        (tmp_path / "models").touch()
    forget_digests()
    assert run(tmp_path) == right
