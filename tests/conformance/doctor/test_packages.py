"""Packages that do not load become one line of the doctor's table."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ort_rknn_conformance.doctor.findings import Finding
from ort_rknn_conformance.doctor.packages import cause_of, package_findings, tried

BROKEN = """
import sys
why = sys.argv.pop(1)
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "numpy":
            raise ImportError("\\n".join(["IMPORTANT"] * 40)) from ImportError(why)
sys.meta_path.insert(0, Broken())
from ort_rknn.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("why", "cure"),
    [
        ("libstdc++.so.6: cannot open shared object file: No such file or directory", "sudo apt install libstdc++6"),
        ("undefined symbol: x", "pip install --force-reinstall numpy"),
    ],
)
def test_a_doctor_without_numpy_prints_its_table(why: str, cure: str) -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN, why, "doctor"], capture_output=True, text=True, timeout=100)
    said = " ".join(done.stdout.replace("│", " ").split())
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"numpy does not load: {why}" in said
    assert cure in said
    assert len(done.stdout.splitlines()) < 40


def test_here_all_load() -> None:
    assert list(package_findings()) == []


def test_the_innermost_reason_counts() -> None:
    outer = ImportError("a page\nof advice")
    outer.__cause__ = ImportError("libgomp.so.1: cannot open shared object file: No such file")
    assert cause_of(outer) == "libgomp.so.1: cannot open shared object file: No such file"


def test_what_breaks_on_the_way_is_a_line() -> None:
    def look() -> list[Finding]:
        raise RuntimeError("no such thing")

    (finding,) = tried("cache", look)
    assert (finding.topic, finding.state) == ("cache", "bad")
    assert "RuntimeError: no such thing" in finding.said
