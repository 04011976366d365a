"""The ONNX standard's own backend cases that come with the installed onnx: models with one set of inputs each."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.helpers.versions import newest_opset

_IR_VERSION = 10
"""The newest that onnxruntime 1.20 takes."""


@dataclass(frozen=True)
class BackendCase:
    """One case: its name, model and inputs by name (arrays; lists for sequences; ``None`` for an empty optional)."""

    name: str
    model: onnx.ModelProto
    feed: dict[str, Any]


@cache
def backend_cases() -> tuple[BackendCase, ...]:
    """Every case of the node generator, and of the simple and PyTorch data, sorted by name."""
    with warnings.catch_warnings():
        # The generators divide by zero and overflow on purpose.
        warnings.simplefilter("ignore")
        cases = [case for kind in ("node", "simple", "pytorch-operator", "pytorch-converted") for case in _load(kind)]
    return tuple(sorted(cases, key=lambda case: case.name))


def _load(kind: str) -> list[BackendCase]:
    # Its import runs every generator.
    from onnx.backend.test.loader import load_model_tests

    cases = []
    for test in load_model_tests(kind=kind):
        if test.model is not None:
            model, inputs = test.model, list(test.data_sets[0][0])
        elif test.model_dir and (Path(test.model_dir) / "model.onnx").exists():
            folder = Path(test.model_dir)
            model = onnx.load(folder / "model.onnx")
            inputs = [_read(path, model, i) for i, path in enumerate(_files(folder / "test_data_set_0"))]
        else:
            continue
        overridden = {tensor.name for tensor in model.graph.initializer}
        names = [info.name for info in model.graph.input]
        if len(names) != len(inputs):
            names = [name for name in names if name not in overridden]
        # The generator stamps the newest versions, which onnxruntime may not know yet; few cases use their news.
        model.ir_version = min(model.ir_version, _IR_VERSION)
        for opset in model.opset_import:
            if opset.domain == "":
                opset.version = min(opset.version, newest_opset())
        cases.append(BackendCase(test.name, model, dict(zip(names, map(_array, inputs), strict=False))))
    return cases


def _array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.generic) else value


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("input_*.pb"), key=lambda path: int(path.stem.removeprefix("input_")))


def _read(path: Path, model: onnx.ModelProto, index: int) -> Any:
    kind = model.graph.input[index].type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))
