"""The package's sessions and plain onnxruntime with the plugin, bit for bit, on the same compiled models.

``python -m tests.plugin.parity`` compares every case of the ONNX standard that has NPU nodes, and the shaped models,
on the emulated runtime with the simulator's arithmetic, and prints how many were compared and how many differ.
``--every 10`` takes each tenth case only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.models import DIMS, MODELS
from ort_rknn import InferenceSession
from ort_rknn.devices.settings import NpuSettings
from ort_rknn_conformance.flows.emulated_device import EmulatedNpu
from ort_rknn_converters.numerics.random_inputs import feeds_for
from ort_rknn_converters.options import ConvertOptions
from tests.helpers.backend_cases import backend_cases
from tests.helpers.emulator import build_emulator
from tests.helpers.plugin import plugin_session, registered
from tests.helpers.toolkits.emulated import emulated_compile

SHAPED = ("bert_mini", "constant_if", "lstm_crnn", "mobilenetv2", "nms_detector", "text_encoder")


@dataclass
class Counts:
    """How a comparison ended."""

    same: int = 0
    without_npu: int = 0
    not_converted: int = 0
    failing: int = 0
    different: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.same + len(self.different)} compared, {len(self.different)} different; "
            f"{self.without_npu} without NPU nodes, {self.not_converted} that the converter refuses, "
            f"{self.failing} that fail in the package's session"
        )


def compare(name: str, model: onnx.ModelProto, feed: Mapping[str, Any], folder: Path, counts: Counts) -> None:
    """Convert, save, run on both, compare."""
    options = ConvertOptions(min_gain=0, dims=DIMS.get(name, {}))
    try:
        compiled = import_module("ort_rknn_converters.pipeline.convert").convert(
            model, options=options, compile=emulated_compile
        )
    except Exception:  # an op that exists for other kinds of values: the standard has many
        counts.not_converted += 1
        return
    if not compiled.npu_steps:
        counts.without_npu += 1
        return
    path = folder / "model.onnx"
    compiled.save(path)
    shim = None
    try:
        shim = InferenceSession(
            str(path),
            providers=["RKNNExecutionProvider"],
            device=EmulatedNpu(NpuSettings(runtime_library=build_emulator())),
        )
        assert shim.get_providers()[0] == "RKNNExecutionProvider"
        expected = shim.run(None, dict(feed))
    except Exception:  # an op that onnxruntime does not have: each of its errors is a class of its own
        counts.failing += 1
        return
    finally:
        if shim is not None:
            shim.close()
    got = plugin_session(path).run(None, dict(feed))
    if len(got) == len(expected) and all(map(equal, got, expected)):
        counts.same += 1
    else:
        counts.different.append(name)


def equal(one: Any, other: Any) -> bool:
    """Whether two outputs are the same to the last bit, type and shape included."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(equal, one, other))
    if one is None or other is None:
        return one is other
    one, other = np.asarray(one), np.asarray(other)
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def shaped() -> Iterator[tuple[str, onnx.ModelProto, dict[str, Any]]]:
    """The shaped models, with feeds."""
    for name in SHAPED:
        model = MODELS[name]()
        yield name, model, _feed(model, DIMS.get(name, {}))


def _feed(model: onnx.ModelProto, dims: Mapping[str, int]) -> dict[str, Any]:
    fixed = onnx.ModelProto.FromString(model.SerializeToString())
    for value in fixed.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]
    return dict(feeds_for(fixed, 1)[0])


def standard(every: int = 1) -> Iterator[tuple[str, onnx.ModelProto, dict[str, Any]]]:
    """The standard's cases."""
    for case in backend_cases()[::every]:
        yield case.name, case.model, case.feed


def run(cases: Iterator[tuple[str, onnx.ModelProto, dict[str, Any]]]) -> Counts:
    """Compare all."""
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder, registered(build_emulator()):
        for name, model, feed in cases:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compare(name, model, feed, Path(folder), counts)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take each n-th case of the standard")
    every = parser.parse_args().every
    bad = 0
    for title, cases in (("shaped models", shaped()), ("standard cases", standard(every))):
        counts = run(cases)
        print(f"{title}: {counts}")
        for name in counts.different:
            print(f"  different: {name}")
        bad += len(counts.different) + (counts.same == 0)  # nothing compared proves nothing
    return bad


if __name__ == "__main__":
    sys.exit(main())
