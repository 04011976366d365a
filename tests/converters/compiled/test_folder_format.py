"""The private fast form of a compiled model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.values import NpuStep
from ort_rknn_converters.errors import CompiledModelError
from tests.helpers.compiled_models import sample


class TestPieces:
    def test_what_is_saved_is_what_is_loaded(self, tmp_path: Path) -> None:
        compiled = sample(("rk3588", "rk3576"))
        compiled.save_folder(tmp_path / "p")
        assert CompiledModel.load_folder(tmp_path / "p") == compiled

    def test_code_stays_on_disk(self, tmp_path: Path) -> None:
        sample().save_folder(tmp_path)
        step = CompiledModel.load_folder(tmp_path).npu_steps[0]
        assert isinstance(step, NpuStep)
        assert step.code["rk3588"].path == str(tmp_path / "npu_0.rk3588.rknn")

    @pytest.mark.parametrize(
        "how", ["missing folder", "missing file", "short file", "changed file", "manifest", "form"]
    )
    def test_damage_is_noticed(self, tmp_path: Path, how: str) -> None:
        folder = tmp_path / "p"
        if how != "missing folder":
            sample().save_folder(folder)
        code, manifest = folder / "npu_0.rk3588.rknn", folder / "manifest.json"
        if how == "missing file":
            code.unlink()
        elif how == "short file":
            code.write_bytes(code.read_bytes()[:-1])
        elif how == "changed file":
            data = bytearray(code.read_bytes())
            data[500] ^= 1
            code.write_bytes(data)
        elif how == "manifest":
            manifest.write_text(manifest.read_text()[:-100])
        elif how == "form":
            manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 0'))
        with pytest.raises(CompiledModelError):
            CompiledModel.load_folder(folder)

    def test_a_copied_folder_is_good(self, tmp_path: Path) -> None:
        sample().save_folder(tmp_path / "p")
        for file in (tmp_path / "p").iterdir():
            os.utime(file, (1, 1))
        assert CompiledModel.load_folder(tmp_path / "p") == sample_again(tmp_path / "p")

    def test_loading_imports_nothing_heavy(self, tmp_path: Path) -> None:
        sample().save_folder(tmp_path)
        code = (
            "import sys; from ort_rknn_converters.compiled.model import CompiledModel;"
            f"c = CompiledModel.load_folder({str(tmp_path)!r}); c.npu_steps[0].code['rk3588'].read();"
            "print([m for m in ('onnx', 'onnx_ir', 'onnxruntime', 'numpy', 'google') if m in sys.modules])"
        )
        env = os.environ | {"PYTHONPATH": os.pathsep.join(["converters"])}
        found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]"


def sample_again(folder: Path) -> CompiledModel:
    return CompiledModel.load_folder(folder)
