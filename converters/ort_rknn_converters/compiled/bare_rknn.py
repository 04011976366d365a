"""A bare ``.rknn`` file, ours or anybody's, as a compiled model of one segment that only an NPU can run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.compiled.stub_model import make_stub
from ort_rknn_converters.compiled.values import NpuStep
from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.blobs import Blob, BytesBlob, FileBlob
from ort_rknn_converters.onnx_file.pinned_blobs import pinned
from ort_rknn_converters.onnx_file.schema import helper
from ort_rknn_converters.onnx_file.tensor_types import type_string, value_info
from ort_rknn_converters.partition.plan import CPU, NPU, NodePlacement, Plan, Segment
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.rknn_format.values import RknnFile, RknnIO
from ort_rknn_converters.tensor_info import TensorInfo
from ort_rknn_converters.util.frozen import replace

__all__ = ["load_bare", "open_stub", "shape_sets", "unknown_types"]

SEGMENT = "npu_0"
_ELEMENTS = {
    name: helper.np_dtype_to_tensor_dtype(np.dtype(name))
    for name in (
        "float32",
        "float16",
        "float64",
        "bool",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
    )
}
_BY_THE_RUNTIME = "the compiler gave it to the CPU; the vendor's runtime does it"


def load_bare(
    model: str | os.PathLike[str] | bytes,
    shapes: Mapping[str, Sequence[int]] | None = None,
    types: Mapping[str, str] | None = None,
) -> CompiledModel:
    """Make a compiled model of a ``.rknn`` file.

    Inputs and outputs are what the file says the ONNX model had; what the toolkit did not keep (float16 and float64
    are float32 in it, rank 0 is ``(1,)``) is lost. The code is not copied: the device opens the file itself.

    Args:
        model: A path, or the file's bytes.
        shapes: Input name -> shape, for a file with several sets of input shapes; default: its largest.
        types: Name -> numpy's name of the type, for the inputs and outputs of :func:`unknown_types`.

    Raises:
        CompiledModelError: It is no such file, it is damaged, it does not say what its inputs are, or it was not
            compiled for these shapes.
        OSError: The file cannot be opened.
    """
    file = _read(model, types)
    chosen = _shape_set(file, shapes or {})
    inputs = tuple(_info(value, chosen) for value in file.inputs)
    outputs = tuple(_info(value, chosen) for value in file.outputs)
    precision = "int8" if any(value.device_dtype == "int8" for value in (*file.inputs, *file.outputs)) else "fp16"
    nodes = tuple(
        NodePlacement(node.name, node.op_type, NPU, segment=SEGMENT)
        if node.placement == "NPU"
        else NodePlacement(node.name, node.op_type, CPU, _BY_THE_RUNTIME, SEGMENT)
        for node in file.nodes
        if node.op_type not in ("InputOperator", "OutputOperator")
    )
    segment = Segment(SEGMENT, tuple(node.name for node in nodes), inputs, outputs, size=file.size)
    blob: Blob = BytesBlob(model) if isinstance(model, bytes) else pinned(FileBlob(os.fspath(model)))
    code = {file.target: blob}
    step = NpuStep(SEGMENT, segment, inputs, outputs, code, None, precision, file.toolkit_version, file.dynamic)
    notes = ["a bare .rknn file: made elsewhere, not verified here"]
    if len(_sets(file)) > 1:
        notes.append(f"one of the {len(_sets(file))} sets of input shapes it was compiled for")
    return CompiledModel(
        stub=_stub(file, inputs, outputs),
        steps=(step,),
        plan=Plan(file.target, precision, nodes, (segment,), tuple(notes)),
        targets=(file.target,),
        toolkit_version=file.toolkit_version,
    )


def shape_sets(model: str | os.PathLike[str] | bytes) -> tuple[dict[str, tuple[int, ...]], ...]:
    """The shapes of those inputs of a ``.rknn`` file that can have several, set by set; nothing when none can.

    Raises:
        CompiledModelError: As :func:`load_bare`.
    """
    file = reader.read_rknn(model)
    sets = _sets(file)
    moving = [number for number in range(len(file.inputs)) if len({dims[number] for dims in sets}) > 1]
    return tuple({file.inputs[number].name: dims[number] for number in moving} for dims in sets) if moving else ()


def unknown_types(model: str | os.PathLike[str] | bytes) -> tuple[str, ...]:
    """Inputs and outputs of a ``.rknn`` file whose types it does not say: only the runtime knows them.

    Raises:
        CompiledModelError: As :func:`load_bare`.
    """
    file = reader.read_rknn(model)
    return tuple(value.name for value in (*file.inputs, *file.outputs) if _type_of(value) not in _ELEMENTS)


def _read(model: str | os.PathLike[str] | bytes, types: Mapping[str, str] | None) -> RknnFile:
    """A file as it says itself, and with these types where it does not."""
    file = reader.read_rknn(model)
    if not types:
        return file

    def typed(values: Sequence[RknnIO]) -> tuple[RknnIO, ...]:
        return tuple(
            value if _type_of(value) in _ELEMENTS else replace(value, dtype=types.get(value.name, ""))
            for value in values
        )

    return replace(file, inputs=typed(file.inputs), outputs=typed(file.outputs))


def open_stub(model: str | os.PathLike[str] | bytes, types: Mapping[str, str] | None = None) -> BytesBlob:
    """The outside of a ``.rknn`` file with several sets of shapes: what differs between them is left open.

    Args:
        model: A path, or the file's bytes.
        types: As for :func:`load_bare`.

    Raises:
        CompiledModelError: As :func:`load_bare`.
    """
    file = _read(model, types)
    sides = []
    for side in (file.inputs, file.outputs):
        infos = []
        for value in side:
            forms = [_info(value, number) for number in range(len(_sets(file)))]
            dims = zip(*(form.shape for form in forms), strict=True)
            infos.append(replace(forms[0], shape=tuple(dim[0] if len(set(dim)) == 1 else None for dim in dims)))
        sides.append(tuple(infos))
    return _stub(file, *sides)


def _stub(file: RknnFile, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> BytesBlob:
    outside = helper.make_model(
        helper.make_graph([], "rknn", [value_info(one) for one in inputs], [value_info(one) for one in outputs]),
        producer_name="rknn-toolkit2",
        producer_version=file.toolkit_version,
    )
    if file.custom_string:
        helper.set_model_props(outside, {"rknn.custom_string": file.custom_string})
    return BytesBlob(make_stub(outside).SerializeToString())


def _sets(file: RknnFile) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Every set of input shapes the file was compiled for, in its order."""
    counts = {len(value.shapes) for value in file.inputs if value.shapes}
    if len(counts) != 1:
        return (tuple(value.dims for value in file.inputs),)
    return tuple(
        tuple(value.shapes[number] if value.shapes else value.dims for value in file.inputs)
        for number in range(counts.pop())
    )


def _shape_set(file: RknnFile, shapes: Mapping[str, Sequence[int]]) -> int:
    """Number of the set that fits what is asked for."""
    names = [value.name for value in file.inputs]
    unknown = [name for name in shapes if name not in names]
    if unknown:
        raise CompiledModelError(f"the .rknn file has no input {', '.join(map(repr, unknown))}, but {', '.join(names)}")
    sets = _sets(file)
    for number, dims in enumerate(sets):
        if all(tuple(shapes.get(name, one)) == one for name, one in zip(names, dims, strict=True)):
            return number
    known = "; ".join(
        ", ".join(f"{name}:{'x'.join(map(str, one))}" for name, one in zip(names, dims, strict=True)) for dims in sets
    )
    raise CompiledModelError(f"the .rknn file was not compiled for these input shapes, but for {known}")


def _info(value: RknnIO, chosen: int) -> TensorInfo:
    dtype = _type_of(value)
    element = _ELEMENTS.get(dtype)
    if element is None:
        raise CompiledModelError(
            f"the .rknn file does not say what type {value.name!r} is ({dtype}); where it runs on device 'npu', the "
            "runtime is asked"
        )
    dims = value.shapes[chosen] if chosen < len(value.shapes) else value.dims
    return TensorInfo(value.name, type_string(element), dims)


def _type_of(value: RknnIO) -> str:
    """Numpy's name of a value's type outside; ``unknown`` where the file says none."""
    dtype = value.dtype or ("float32" if value.quantization else value.device_dtype)
    return "float32" if dtype == "float16" else dtype or "unknown"
