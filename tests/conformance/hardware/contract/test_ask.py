"""The emulated runtime's answers against the vendor's, model by model, and its ends against their reasons."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest

from ort_rknn_conformance.doctor.board_models import MODELS, read_dynamic
from ort_rknn_conformance.hardware.contract.ask import ask_apart
from ort_rknn_converters.compiled.model import CompiledModel
from tests.emulator.differences import DELIBERATE, VERSIONS
from tests.helpers.contracts import RECORD, answered, recorded
from tests.helpers.emulator import ROOT, build_emulator

FOREIGN = b"""RKNNEMU 1
target rk3588
input input.1 int8 1,1,128,128 nhwc 1 -128
input input int8 1,3,128,128 nhwc 1 -128
output 8 int8 1,8,128,128 nchw 4.14237 20
maker 8 Conv
"""
"""The model ``mi`` of the record, as its attributes tell it."""


def compiled(name: str) -> bytes:
    """A model of the record: of the board test for rk3588, named after the model and the segment."""
    if name == "mi":
        return FOREIGN + b"\0" * 64
    if name == "dynamic":
        return read_dynamic("rk3588")
    model_name, _, segment = name.rpartition("-npu_")
    (model,) = (one for one in MODELS if one.name == (model_name or "conv"))
    steps = {step.name: step for step in CompiledModel.load(model.read("rk3588")).npu_steps}
    return steps[f"npu_{segment.removeprefix('npu_')}"].code["rk3588"].read()


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORD.glob("*.txt")))
def test_every_answer_is_the_vendor_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMU_RUNTIME", "1.6.0")
    answers = list(answered(ask_apart(str(build_emulator()), compiled(name), dynamic=name == "dynamic")))
    differ = [
        (vendor, emulator)
        for vendor, emulator in zip_longest(recorded(name), answers)
        if vendor != emulator and not any(one.holds(name, vendor[0]) for one in DELIBERATE)
    ]
    assert not differ


def test_no_deliberate_difference_is_without_use() -> None:
    said = [(path.stem, row) for path in RECORD.glob("*.txt") for row, _ in recorded(path.stem)]
    for one in DELIBERATE:
        assert any(one.holds(name, row) for name, row in said), one


def test_the_versions_differ_where_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {}
    for version in ("1.6.0", "2.3.2"):
        monkeypatch.setenv("EMU_RUNTIME", version)
        rows[version] = {
            name: dict(answered(ask_apart(str(build_emulator()), compiled(name), dynamic=False)))
            for name in ("npu_0", "types-npu_0")
        }
    old, new = rows["1.6.0"]["npu_0"], rows["2.3.2"]["npu_0"]
    only_old = {said for said in old.keys() - new.keys() if not said.startswith("SDK")}
    assert only_old == {"NCHW: SIGSEGV"} | {said for said in only_old if "io types" in said}
    assert new["inputs_set f32 fmt=NCHW rc=0"][0] in VERSIONS["NCHW floats into an NHWC input"][1]
    assert "run before inputs_set rc=-1" in rows["1.6.0"]["types-npu_0"]
    assert "run before inputs_set rc=0" in rows["2.3.2"]["types-npu_0"]


ENDS = {
    "released_twice": (-6, "abort: double free: outputs are released twice"),
    "no_shapes": (-6, "std::out_of_range leaves the C interface: a dynamic model before rknn_set_input_shapes"),
    "after_destroy": (-11, "a context is used after rknn_destroy"),
}
PROGRAM = """
import sys
from ort_rknn_conformance.hardware.contract.raw_runtime import RawContext, RawRuntime
library, model, end = sys.argv[1:]
context = RawContext(RawRuntime(library), open(model, "rb").read())
context.set(context.arrays(0))
context.run()
slots = context.slots(preallocated=False)
context.get(slots)
if end == "released_twice":
    context.release(slots), context.release(slots)
context.runtime.destroy(context.handle)
context.attr(1, 0)
"""


@pytest.mark.parametrize("end", ENDS)
def test_an_end_names_its_reason(end: str, tmp_path: Path) -> None:
    model = tmp_path / "model.rknn"
    model.write_bytes(compiled("dynamic" if end == "no_shapes" else "npu_0"))
    command = [sys.executable, "-c", PROGRAM, str(build_emulator()), str(model), end]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    code, reason = ENDS[end]
    assert done.returncode == code
    assert re.search(reason, done.stderr), done.stderr
