"""The stand-ins for modules that the toolkit imports but hardly uses."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ort_rknn_converters.toolkit.worker import stub_modules

FOLDER = Path(stub_modules.__file__).parent


def made(name: str) -> dict[str, ModuleType]:
    return stub_modules.BUILDERS[name]()


def test_only_what_is_missing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    scipy, ruamel = ("scipy", "scipy.special"), ("ruamel", "ruamel.yaml")
    for name in ("torch", "torch.nn", "torch.nn.functional", *scipy, "cv2", "pkg_resources", *ruamel):
        monkeypatch.delitem(sys.modules, name, raising=False)
    real = {"scipy"}
    monkeypatch.setattr(stub_modules.importlib.util, "find_spec", lambda name: object() if name in real else None)
    before = dict(sys.modules)
    try:
        assert stub_modules.insert() == ["torch", "cv2", "pkg_resources", "ruamel"]
        assert "scipy" not in sys.modules
        assert sys.modules["torch"].__dict__["nn"] is sys.modules["torch.nn"]
        assert stub_modules.insert() == []
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def test_no_grad_in_each_of_its_forms() -> None:
    torch = made("torch")["torch"].__dict__

    @torch["no_grad"]()
    def called(x: int) -> int:
        return x + 1

    @torch["no_grad"]
    def bare(x: int) -> int:
        return x + 2

    with torch["no_grad"]():
        assert (called(1), bare(1)) == (2, 3)
    assert issubclass(type("Net", (torch["nn"].Module,), {}), torch["nn"].Module)


def test_split_and_cat() -> None:
    torch = made("torch")["torch"].__dict__
    x = np.arange(10).reshape(2, 5)
    assert [part.shape for part in torch["split"](x, 2, dim=1)] == [(2, 2), (2, 2), (2, 1)]
    parts = torch["split"](x, [1, 4], dim=1)
    assert [part.shape for part in parts] == [(2, 1), (2, 4)]
    np.testing.assert_array_equal(torch["cat"](parts, dim=1), x)


def test_special_functions() -> None:
    special = made("scipy")["scipy.special"].__dict__
    x = np.linspace(-5, 5, 11, dtype=np.float32)
    erf = special["erf"](x)
    assert erf.dtype == np.float32
    np.testing.assert_allclose(erf, [math.erf(v) for v in x], rtol=1e-6)
    everywhere = np.concatenate([np.linspace(-7, 7, 100_001), [-0.0, 1e-300, np.inf, -np.inf, np.nan]])
    exact = np.array([math.erf(value) for value in everywhere])
    np.testing.assert_allclose(special["erf"](everywhere), exact, rtol=1e-14, atol=0)
    assert np.signbit(special["erf"](-0.0))
    assert special["erf"](np.zeros((2, 0, 3), np.float32)).shape == (2, 0, 3)
    far = special["expit"](np.array([-1000.0, 0.0, 1000.0]))
    np.testing.assert_array_equal(far, [0, 0.5, 1])
    assert special["expit"](np.arange(3)).dtype == np.float64


def test_pkg_resources_knows_versions() -> None:
    module = made("pkg_resources")["pkg_resources"].__dict__
    assert module["get_distribution"]("numpy").version == np.__version__


def test_settings_between_the_steps_of_hybrid_quantization_come_back(tmp_path: Path) -> None:
    yaml = made("ruamel")["ruamel.yaml"].__dict__["YAML"](typ="rt")
    yaml.indent(mapping=4)
    with (tmp_path / "settings").open("w") as file:
        yaml.dump({"custom_quantize_layers": {}, "scale": [np.float32(0.5)], "zero": np.array([3])}, file)
    with (tmp_path / "settings").open() as file:
        assert yaml.load(file) == {"custom_quantize_layers": {}, "scale": [0.5], "zero": [3]}


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("[!_]*.py")))
def test_what_runs_in_the_child_is_python_3_8_and_needs_nothing_of_ours(name: str) -> None:
    tree = ast.parse((FOLDER / name).read_text(), feature_version=(3, 8))
    allowed = {"numpy", "onnx", "onnxruntime", "rknn", "ruamel", *sys.stdlib_module_names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert {module.split(".")[0] for module in modules} <= allowed
