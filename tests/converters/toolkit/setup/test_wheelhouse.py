"""A folder of wheels for a machine without a network: what is picked, and every way it can be wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ort_rknn_converters.toolkit.setup import wheelhouse
from ort_rknn_converters.toolkit.setup.find_python import InstallFailed, Interpreter, choose_interpreter, is_installed
from ort_rknn_converters.toolkit.setup.install import REQUIREMENTS, TOOLKIT_VERSION
from ort_rknn_converters.toolkit.setup.wheelhouse import LIST, download, read_wheelhouse, requirements_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {}
    for name in ("rknn_toolkit2-2.5.0-cp311-x.whl", "numpy-2.3.5-cp311-x.whl"):
        (tmp_path / name).write_bytes(name.encode())
        files[name] = hashlib.sha256(name.encode()).hexdigest()
    about = {"format": 1, "toolkit": TOOLKIT_VERSION, "python": "3.11", "machine": "aarch64", "sha256": files}
    (tmp_path / LIST).write_text(json.dumps({**about, "requirements": list(files)}))
    return tmp_path


def read(folder: Path, machine: str = "aarch64") -> Any:
    return read_wheelhouse(folder, toolkit=TOOLKIT_VERSION, machine=machine)


@pytest.mark.parametrize(
    ("python", "numpy", "sympy"), [("3.8", "1.24.4", "1.13.3"), ("3.10", "2.2.6", "1.14.0"), ("3.12", "2.3.5", None)]
)
def test_what_a_python_needs(python: str, numpy: str, sympy: str | None) -> None:
    found = dict(line.split("==") for line in requirements_for(python, REQUIREMENTS))
    assert found["numpy"] == numpy
    assert found.get("sympy") == sympy
    assert len(found) == len(requirements_for(python, REQUIREMENTS))


def test_a_good_folder(folder: Path) -> None:
    found = read(folder)
    assert (found.version, found.machine, found.size) == ((3, 11), "aarch64", 54)


def test_damage_is_found_before_anything_is_installed(folder: Path) -> None:
    (folder / "numpy-2.3.5-cp311-x.whl").write_bytes(b"another one")
    with pytest.raises(InstallFailed, match=r"numpy-2\.3\.5.* is damaged: its SHA-256"):
        read(folder)
    (folder / "numpy-2.3.5-cp311-x.whl").unlink()
    with pytest.raises(InstallFailed, match=r"lacks numpy-2\.3\.5"):
        read(folder)


def test_a_folder_for_another_machine(folder: Path) -> None:
    with pytest.raises(InstallFailed, match=r"is for aarch64, this machine is x86_64.*--platform x86_64"):
        read(folder, "x86_64")


@pytest.mark.parametrize("change", [{"toolkit": "2.3.2"}, {"format": 2}])
def test_a_folder_of_another_version(folder: Path, change: dict[str, Any]) -> None:
    about = json.loads((folder / LIST).read_text())
    (folder / LIST).write_text(json.dumps(about | change))
    with pytest.raises(InstallFailed, match="Make it anew"):
        read(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"sha256": 3}'])
def test_a_list_that_is_none(folder: Path, text: str) -> None:
    (folder / LIST).write_text(text)
    with pytest.raises(InstallFailed, match="cannot be read"):
        read(folder)


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match="no folder of `ort-rknn toolkit download`"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("machine", "python", "said"),
    [
        ("armv7l", "3.11", "not for armv7l"),
        ("aarch64", "3.13", "no wheels for Python 3.13"),
        ("aarch64", "x", "no version"),
    ],
)
def test_what_cannot_be_downloaded(tmp_path: Path, machine: str, python: str, said: str) -> None:
    with pytest.raises(InstallFailed, match=said):
        download(tmp_path, toolkit="2.5.0", requirements=REQUIREMENTS, machine=machine, python=python)


def test_a_registry_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheelhouse, "_pip", lambda _: ["sh", "-c", "echo no route to host; exit 1"])
    with pytest.raises(InstallFailed, match=r"(?s)cannot be fetched.*no route to host"):
        download(tmp_path, toolkit="2.5.0", requirements=(), machine="aarch64", python="3.11")


def test_the_wheels_python_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from ort_rknn_converters.toolkit.setup import find_python

    monkeypatch.setattr(find_python, "probe", lambda path: Interpreter(path, (3, 12), True))
    with pytest.raises(InstallFailed, match=r"the wheels are for Python 3\.11, which is not here"):
        choose_interpreter(("uv",), None, (3, 11))
    with pytest.raises(InstallFailed, match=r"is Python 3\.12, and the wheels are for 3\.11"):
        choose_interpreter(("uv",), "python3.12", (3, 11))


@pytest.mark.parametrize("python", ["", "3", "3.", "3.11.2.1", "-3.11", "3.\u0661", "3.11\x1b[2J", "9" * 5000])
def test_a_list_for_no_python(folder: Path, python: str) -> None:
    about = json.loads((folder / LIST).read_text())
    (folder / LIST).write_text(json.dumps(about | {"python": python}))
    with pytest.raises(InstallFailed, match="is no version of Python") as raised:
        read(folder)
    assert len(str(raised.value)) < 400


def test_a_folder_in_the_working_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip_of_nobody").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not is_installed("pip_of_nobody")
    assert is_installed("json")
