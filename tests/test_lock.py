"""The lock files hold what pyproject.toml and the tests ask for, whole, pinned, with hashes, and from nowhere named."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from itertools import product

import pytest
from lock import renew
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ort_rknn_converters.toolkit.setup.install import REQUIREMENTS
from tests.aarch64.prepare import WHEELS

ROOT = renew.ROOT
PLACES = list(product(renew.PYTHONS, renew.MACHINES))
HASHED = ("aarch64.txt", "dev.txt", "docs.txt", "oldest.txt")
COMPILED = ("numpy", "onnx", "ml-dtypes", "cmake", "ninja")
"""Packages of both locks that have a wheel for each CPU."""


def text(name: str) -> str:
    return (renew.LOCK / name).read_text(encoding="utf-8")


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """Every requirement of a lock file with its hashes."""
    logical = re.sub(r"\\\n", "", re.sub(r"^\s*#.*\n", "", text(name), flags=re.MULTILINE))
    found = []
    for line in filter(None, logical.splitlines()):
        requirement, *hashes = re.split(r"\s+--hash=", line)
        found.append((Requirement(requirement), [word.strip() for word in hashes]))
    return found


def place(python: str, machine: str) -> dict[str, str]:
    """What markers see on Linux with this Python and CPU."""
    return {
        **{key: str(value) for key, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.5",
        "implementation_version": f"{python}.5",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "extra": "",
    }


def pins(name: str, where: dict[str, str]) -> dict[str, str]:
    """Package -> version, of what a lock file installs there; twice the same package is an error."""
    chosen: dict[str, str] = {}
    for requirement, _ in entries(name):
        if requirement.marker is None or requirement.marker.evaluate(where):
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", requirement
            package = canonicalize_name(requirement.name)
            assert package not in chosen, f"{package} twice in lock/{name}"
            chosen[package] = specifier.version
    return chosen


def missing(wanted: list[str], pinned: dict[str, str], where: dict[str, str]) -> list[str]:
    """Requirements that no pin fulfils there."""
    asked = [Requirement(line) for line in wanted]
    return [
        str(line)
        for line in asked
        if (line.marker is None or line.marker.evaluate(where))
        and not line.specifier.contains(pinned.get(canonicalize_name(line.name), "0.dev0"), prereleases=True)
    ]


@pytest.mark.parametrize(("python", "machine"), PLACES)
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("dev.txt", [*renew.newest(), *renew.pyproject()["build-system"]["requires"]]),
        ("oldest.txt", [*renew.oldest(), *renew.pyproject()["build-system"]["requires"]]),
        ("docs.txt", renew.documentation()),
        ("programs.txt", renew.programs()),
    ],
    ids=["dev", "oldest", "docs", "programs"],
)
def test_the_lock_is_in_step(name: str, wanted: list[str], python: str, machine: str) -> None:
    where = place(python, machine)
    assert missing(wanted, pins(name, where), where) == [], "run `make lock`"


def test_programs_run_beside_the_versions_of_the_suite() -> None:
    for python, machine in PLACES:
        suite, programs = (pins(name, place(python, machine)) for name in ("dev.txt", "programs.txt"))
        assert {name: programs[name] for name in suite.keys() & programs.keys()}.items() <= suite.items()


def test_nothing_that_is_installed_needs_a_package_that_is_not_locked() -> None:
    where = {**{key: str(value) for key, value in default_environment().items()}, "extra": ""}
    pinned = pins("dev.txt", where)
    unlocked = []
    for package in pinned:
        try:
            needs = requires(package) or []
        except PackageNotFoundError:  # the suite runs in another environment, such as the oldest
            continue
        unlocked += [
            f"{package} needs {line}"
            for line in map(Requirement, needs)
            if (line.marker is None or line.marker.evaluate(where)) and canonicalize_name(line.name) not in pinned
        ]
    assert unlocked == []


@pytest.mark.parametrize("name", HASHED)
def test_every_requirement_has_hashes(name: str) -> None:
    for requirement, hashes in entries(name):
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", word) for word in hashes), requirement
        # An x86-64 wheel, an aarch64 wheel: which hash is whose only the registry knows, and `make lock` asks it.
        if name != "aarch64.txt" and requirement.name in COMPILED:
            assert len(hashes) > 2, requirement


@pytest.mark.parametrize("name", [*HASHED, "programs.txt", "ray.txt"])
def test_nothing_names_a_registry_or_a_folder(name: str) -> None:
    assert not re.search(r"index-url|find-links|trusted-host|://|file:|@|^-", text(name), re.MULTILINE)


def test_the_wheels_for_qemu_are_locked() -> None:
    locked = {canonicalize_name(line.name): str(line.specifier) for line, _ in entries("aarch64.txt")}
    wanted = {canonicalize_name(line.name): str(line.specifier) for line in map(Requirement, WHEELS)}
    assert locked == wanted, "run `make lock`"


@pytest.mark.parametrize("python", ["3.8", "3.9", "3.10", "3.11", "3.12"])
def test_the_toolkits_environment_has_one_version_of_everything(python: str) -> None:
    where = place(python, "x86_64")
    lines = [Requirement(line) for line in REQUIREMENTS]
    here = [line for line in lines if line.marker is None or line.marker.evaluate(where)]
    assert len({line.name for line in here}) == len(here)
    assert all(str(line.specifier).startswith("==") and "*" not in str(line.specifier) for line in here)
    assert {"onnx", "protobuf", "numpy", "onnxruntime", "tqdm"} <= {line.name for line in here}
    assert missing(["onnx>=1.16.1,<1.19", "protobuf<7", "numpy<2.4"], pins_of(here), where) == []


def pins_of(lines: list[Requirement]) -> dict[str, str]:
    return {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in lines}


def test_the_readme_names_the_versions_that_are_locked() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (seen,) = re.findall(r"onnxruntime 1\.20 or later \(seen with ([^)]*)\)", readme)
    where = place("3.11", "x86_64")
    named = re.findall(r"\d+\.\d+\.\d+", seen)
    assert named[0] == pins("oldest.txt", where)["onnxruntime"]
    assert named[-1] == pins("dev.txt", where)["onnxruntime"]
