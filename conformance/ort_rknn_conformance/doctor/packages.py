"""The Python packages that a session loads, tried: what does not load is said in one line with its cure."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator

from ort_rknn_conformance.doctor.findings import Finding

__all__ = ["cause_of", "package_findings", "tried"]

_LIBRARIES = {
    "libstdc++.so": "libstdc++6",
    "libgomp.so": "libgomp1",
    "libgcc_s.so": "libgcc-s1",
    "libz.so": "zlib1g",
}
"""System libraries that wheels leave to the system, and Debian's packages of them."""


def package_findings() -> Iterator[Finding]:
    """Tries numpy and onnxruntime; yields a line for each that does not load."""
    for name in ("numpy", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            why = cause_of(error)
            yield Finding(name, "bad", f"does not load: {why}", _cure(name, why))
            return  # the next one needs this one


def tried(topic: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Looks, and turns what breaks on the way into a line of the table: the table is for machines that are broken."""
    found: list[Finding] = []
    try:
        found.extend(look())  # what came before the error stays
    except Exception as error:
        said = f"could not be looked at: {type(error).__name__}: {cause_of(error)}"
        found.append(Finding(topic, "bad", said, "ort-rknn doctor --json prints all of it, for a report"))
    return found


def cause_of(error: BaseException) -> str:
    """Finds the innermost reason of a failed import, in one line: numpy wraps it into a page of advice."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    library = next((line for line in lines if "cannot open shared object file" in line), "")
    return library or (lines[0] if lines else type(error).__name__)


def _cure(name: str, why: str) -> str:
    for library, package in _LIBRARIES.items():
        if library in why:
            return f"install it: sudo apt install {package} (the system's own library, which no wheel brings along)"
    if why.startswith("No module named"):
        return f"pip install {name}"
    return f"pip install --force-reinstall {name}"
