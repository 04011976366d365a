"""The runtime library as files: where it is looked for, where else it lies, whose it is, and what it still loads."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from ort_rknn.devices.library_name import ENVIRONMENT, FOLDERS, NAMES, searched, version_in
from ort_rknn.devices.soc import Soc
from ort_rknn_conformance.doctor.findings import Finding
from ort_rknn_converters.targets import find_target
from ort_rknn_converters.util.own_files import is_file, open_regular

__all__ = ["INSTALL", "numbers", "runtime_findings"]

INSTALL = (
    "copy librknnrt.so from github.com/airockchip/rknn-toolkit2 (rknpu2/runtime/Linux/librknn_api/aarch64) to /usr/lib "
    f"or name it with {ENVIRONMENT[0]}"
)

# Loads models of toolkit 2.5.0, as was seen with it and with 1.6.0; 1.5.0 and 1.4.0 were seen to refuse them.
_LOADS_2X = (1, 5, 2)
# The toolkits that PyPI has; older ones are in the vendor's repository.
_ON_PYPI = ("2.2.0", "2.3.0", "2.3.2", "2.5.0")

# Where owners have put librknnrt and no loader looks.
_ELSEWHERE = (
    *(
        "oem/usr/lib",
        "oem/lib",
        "userdata",
        "userdata/lib",
        "opt/lib",
        "opt/rknpu2",
        "opt/rknn",
        "root",
        "usr/lib/rknn",
    ),
    *(
        "usr/lib/rockchip",
        "usr/local/lib64",
        "usr/local/lib/aarch64-linux-gnu",
        "usr/lib32",
        "usr/lib/arm-linux-gnueabihf",
    ),
)
_HOMES = 20  # folders of users that are looked into

# Libraries of other NPU generations, and whose they are.
_FOREIGN = {
    "librknnmrt.so": "RV1103 and RV1106 (mini runtime)",
    "librknn_api.so": "RK1808, RK3399Pro and RV1126 (toolkit 1.x)",
    "librknn_runtime.so": "RK1808, RK3399Pro and RV1126 (toolkit 1.x)",
}
_MINI = re.compile(rb"librknnmrt version: (\d+\.\d+\.\d+)")

# Bytes 18 and 19 of an ELF file: the machine it is for.
_MACHINES = {
    0x28: ("armv7l", "32-bit ARM"),
    0x3E: ("x86_64", "x86-64"),
    0x03: ("i686", "32-bit x86"),
    0xB7: ("aarch64", "64-bit ARM"),
}


def runtime_findings(base: Path, soc: Soc, toolkit: str | None, library: str | None, machine: str) -> Iterator[Finding]:
    """Looks at all runtime libraries of a board.

    Args:
        base: Where its file system is.
        soc: What the board is.
        toolkit: Version of the toolkit that compiles for it, if known.
        library: Runtime library the user named.
        machine: The processor.
    """
    topic = "runtime library"
    found = _searched(base) if library is None else [library]
    if not found:
        yield _missing(base, soc, machine)
        yield from _foreign(base, soc)
        return
    paths = {name: Path(name) if library is not None else base / name.lstrip("/") for name in found}
    versions = {name: version_in(path) for name, path in paths.items()}
    first, version = next(iter(versions.items()))
    if (other := _of_another(paths[first], machine)) is not None:
        yield Finding(topic, "bad", f"{first} is {other}", INSTALL)
    elif version is None:
        yield Finding(topic, "bad", f"{first} is no librknnrt, or cannot be read", INSTALL)
    else:
        yield _age(first, version, toolkit)
    yield from _copies(first, versions)
    yield from _foreign(base, soc)


def numbers(version: str) -> tuple[int, ...]:
    """Parses the numbers of a version, three at most."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _searched(base: Path) -> list[str]:
    """Files by the usual names, in the order they are tried; links to one file count once."""
    found: dict[Path, str] = {}
    for name in NAMES:
        for folder in FOLDERS:
            path = base / folder.lstrip("/") / name
            if is_file(path):
                found.setdefault(path.resolve(), f"{folder}/{name}")
    return list(found.values())


def _missing(base: Path, soc: Soc, machine: str) -> Finding:
    topic, said = "runtime library", f"no {NAMES[0]}"
    if misplaced := [name for name in _elsewhere(base) if _of_another(base / name.lstrip("/"), machine) is None]:
        return Finding(
            topic,
            "bad",
            f"{said} where it is looked for; one is {misplaced[0]}",
            f"sudo cp {misplaced[0]} /usr/lib/ or set {ENVIRONMENT[0]}={misplaced[0]}",
        )
    if wrong := _elsewhere(base):
        return Finding(
            topic, "bad", f"{said}; {wrong[0]} is {_of_another(base / wrong[0].lstrip('/'), machine)}", INSTALL
        )
    return Finding(topic, "bad", said, INSTALL if soc.target is not None else "")


def _elsewhere(base: Path) -> list[str]:
    homes = sorted(base.glob("home/*"))[:_HOMES]
    folders = [base / name for name in _ELSEWHERE] + homes
    return [f"/{path.relative_to(base)}" for folder in folders for path in [folder / NAMES[0]] if is_file(path)]


def _of_another(path: Path, machine: str) -> str | None:
    """Says whose library a file is, where it is that of another NPU or of another processor."""
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), searched(file.fileno()), access=1) as data:
            head = data[:20]
            found = _MINI.search(data)
            mini = found and found.group(1).decode()
    except (OSError, ValueError):
        return None
    if mini:
        return f"librknnmrt {mini} under another name, the runtime of {_FOREIGN['librknnmrt.so']}"
    made_for = _MACHINES.get(int.from_bytes(head[18:20], "little")) if head[:4] == b"\x7fELF" else None
    if made_for is not None and made_for[0] != machine:
        return f"a library for {made_for[1]}, not for this {machine}"
    return None


def _age(first: str, version: str, toolkit: str | None) -> Finding:
    """Judges the runtime beside the toolkit whose models it is to load."""
    topic = "runtime library"
    if toolkit is None or numbers(version)[:2] >= numbers(toolkit)[:2]:
        return Finding(topic, "ok", f"{first} {version}")
    older = f"{first} {version} is older than the toolkit ({toolkit})"
    if numbers(version) >= _LOADS_2X:
        limits = "" if numbers(version) >= (2,) else ", without BOOL outputs"
        return Finding(
            topic,
            "note",
            f"{older}: 1.5.2 and 1.6.0 were seen to load models of 2.5.0{limits}; newer operators may fail",
            f"{INSTALL}; or compile with {_toolkit_for(version)}",
        )
    return Finding(
        topic,
        "bad",
        f"{older}: 'Invalid RKNN model version' is what follows",
        f"{INSTALL}; or compile with {_toolkit_for(version)}, whose models it still loads",
    )


def _toolkit_for(version: str) -> str:
    """Names the newest toolkit that a runtime was made with, and where to get it."""
    fitting = [known for known in _ON_PYPI if numbers(known) <= numbers(version)]
    if fitting:
        return f"rknn-toolkit2 {fitting[-1]} (pip install rknn-toolkit2=={fitting[-1]})"
    place = "rockchip-linux" if numbers(version) < (2,) else "airockchip"
    where = f"github.com/{place}/rknn-toolkit2, tag v{version}"
    return f"rknn-toolkit2 {version} ({where}; ORT_RKNN_TOOLKIT_PYTHON names its Python)"


def _copies(first: str, versions: dict[str, str | None]) -> Iterator[Finding]:
    others = {name: said for name, said in versions.items() if said != versions[first]}
    if others:
        copies = ", ".join(f"{name} {said or '(unknown)'}" for name, said in others.items())
        yield Finding(
            "runtime copies",
            "note",
            f"also {copies}; other programs, or another order of folders, load those",
            f"remove what is not meant; {first} is taken, the first found",
        )


def _foreign(base: Path, soc: Soc) -> Iterator[Finding]:
    """Names libraries of other NPU generations beside where librknnrt belongs."""
    if soc.target is None or find_target(soc.target).small_npu:  # theirs is librknnmrt
        return
    seen = [
        (f"{folder}/{name}", whose)
        for name, whose in _FOREIGN.items()
        for folder in FOLDERS
        if is_file(base / folder.lstrip("/") / name)
    ]
    if not seen:
        return
    said = "; ".join(f"{name} is that of {whose}" for name, whose in seen)
    yield Finding(
        "other runtimes",
        "note",
        f"{said}, and cannot run models for {soc.target}",
        "not used here; remove what is not meant",
    )
