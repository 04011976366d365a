"""The ONNX standard's own backend test cases, from the installed ``onnx``: generated node cases and its bundled models.

The node cases hand everything in as graph inputs, a convolution's weights and a Reshape's shape included. In real
models those are constants, and a compiler needs them so; they become initializers here. The expected outputs that the
standard ships are not used: CPU onnxruntime on the same feeds is what a user compares with.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ort_rknn_conformance.case import Case
from ort_rknn_conformance.sources.opset_stamps import restamp

__all__ = ["cases"]

BUNDLED = ("simple", "pytorch-converted", "pytorch-operator")

# Op -> the inputs that real models give as constants.
_CONSTANTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "DeformConv"), (1, 2)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3)),
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization", "GroupNormalization"), (1, 2)),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "OneHot", "Clip", "Col2Im", "DFT"), (1, 2)),
    **dict.fromkeys(("Pad", "Resize"), (1, 2, 3)),
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Unsqueeze", "Squeeze", "Split", "TopK", "Upsample"), (1,)),
    **dict.fromkeys(("PRelu", "RMSNormalization", "CumSum", "Trilu", "CenterCropPad", "AffineGrid"), (1,)),
    **dict.fromkeys((f"Reduce{kind}" for kind in ("Sum", "Mean", "Max", "Min", "Prod", "SumSquare")), (1,)),
    **dict.fromkeys((f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp")), (1,)),
    "BatchNormalization": (1, 2, 3, 4),
    "Slice": (1, 2, 3, 4),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "MaxUnpool": (2,),
}


def cases(patterns: Sequence[str] = ()) -> Iterator[Case]:
    """All cases whose name matches one of the shell patterns (all cases without any), sorted by kind.

    Names are ``node/test_relu``, ``simple/test_sequence_model1`` ... A pattern without ``*`` matches inside a name.
    """
    wanted = [pattern if "*" in pattern else f"*{pattern}*" for pattern in patterns]

    def chosen(name: str) -> bool:
        return not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)

    yield from (case for case in _node_cases(chosen))
    yield from (case for kind in BUNDLED for case in _bundled_cases(kind, chosen))


def _node_cases(chosen: Any) -> Iterator[Case]:
    from onnx.backend.test.case import node  # imports some 300 modules: only when asked for

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow and divide by zero on purpose
        generated = node.collect_testcases(None)
    for test in generated:
        name = f"node/{test.name}"
        if not chosen(name) or test.model is None or not test.data_sets:
            continue
        samples = []
        for inputs, _ in test.data_sets:
            values = [_value(item) for item in inputs]
            samples.append(dict(zip((item.name for item in test.model.graph.input), values, strict=False)))
        yield _with_constants(name, test.model, samples)


def _bundled_cases(kind: str, chosen: Any) -> Iterator[Case]:
    from onnx.backend.test.loader import load_model_tests

    for test in load_model_tests(kind=kind):
        name = f"{kind}/{test.name}"
        if not chosen(name) or test.model_dir is None:
            continue
        folder = Path(test.model_dir)
        model = onnx.load(folder / "model.onnx")
        given = {item.name for item in model.graph.initializer}
        inputs = [item for item in model.graph.input if item.name not in given]
        samples = [
            {item.name: _read(data / f"input_{number}.pb", item) for number, item in enumerate(inputs)}
            for data in sorted(folder.glob("test_data_set_*"))
        ]
        if samples:
            yield _with_constants(name, model, samples)


def _read(path: Path, item: onnx.ValueInfoProto) -> Any:
    content = path.read_bytes()
    if item.type.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def _value(item: Any) -> Any:
    """A generated input as onnxruntime takes it: numpy scalars become arrays, protobufs what they hold."""
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if isinstance(item, np.generic) else item


def _with_constants(name: str, model: onnx.ModelProto, samples: list[dict[str, Any]]) -> Case:
    """The case with stamps onnxruntime takes, and its constants as initializers where all samples agree on them."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    restamp(made)
    graph = made.graph
    constant = {
        node.input[position]
        for node in graph.node
        for position in _CONSTANTS.get(node.op_type, ())
        if node.domain in ("", "ai.onnx") and position < len(node.input) and node.input[position]
    }
    first = samples[0]
    for item in [item for item in graph.input if item.name in constant and item.name in first]:
        value = first[item.name]
        if not isinstance(value, np.ndarray) or not all(_equal(sample[item.name], value) for sample in samples):
            continue
        graph.initializer.append(numpy_helper.from_array(value, item.name))
        graph.input.remove(item)
        for sample in samples:
            del sample[item.name]
    return Case(name, made.SerializeToString(), tuple(samples))


def _equal(left: Any, right: Any) -> bool:
    return isinstance(left, np.ndarray) and left.dtype == right.dtype and left.tobytes() == right.tobytes()
