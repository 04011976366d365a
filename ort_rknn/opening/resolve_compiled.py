"""Resolves how a compiled model runs: on the device chosen or, with the segments' own ONNX, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ort_rknn.devices.base import needs
from ort_rknn.errors import RknnError
from ort_rknn.opening.choose_device import Choice
from ort_rknn.opening.dynamic_shapes import CompiledForms
from ort_rknn.opening.resolution import Resolution, say_once
from ort_rknn.ort_conventions import ort_error
from ort_rknn.variant_keys import VariantKey, kinds_of, name_of, variant_key
from ort_rknn_converters.util.frozen import replace

if TYPE_CHECKING:
    from ort_rknn.devices.base import Blob, Device
    from ort_rknn.options.table import RknnOptions
    from ort_rknn_converters.compiled.bundle import Bundle, Variant
    from ort_rknn_converters.compiled.model import CompiledModel

__all__ = ["open_bare", "open_compiled"]


def open_compiled(
    model: str | bytes, choice: Choice, folder: Path | None = None, *, asked: str | None = None
) -> Resolution:
    """Place a compiled model, or one of the several forms in a file.

    Args:
        model: Path or content.
        choice: The device.
        folder: Where the files are that belong to the content.
        asked: The SoC that the options name: code for another is not run in its place, not even on a simulator.

    Raises:
        Exception: onnxruntime's ``InvalidGraph`` for a damaged file, and ``Fail`` where nothing here can run it.
    """
    from ort_rknn_converters.compiled.bundle import Bundle
    from ort_rknn_converters.compiled.model import CompiledModel
    from ort_rknn_converters.errors import CompiledModelError
    from ort_rknn_converters.onnx_file.protobuf_wire import is_bundle

    try:
        if is_bundle(model):
            return _place_bundle(Bundle.load(model), choice, asked)
        return _place(CompiledModel.load(model, folder), choice, asked)
    except CompiledModelError as error:
        raise ort_error("InvalidGraph", str(error)) from error


def open_bare(model: str | bytes, options: RknnOptions, choice: Choice) -> Resolution:
    """A ``.rknn`` file, which only an NPU can run.

    Raises:
        Exception: onnxruntime's ``InvalidGraph`` for a damaged file, and ``Fail`` where there is no NPU for it.
    """
    from ort_rknn_converters.compiled.bare_rknn import load_bare, open_stub, shape_sets, unknown_types
    from ort_rknn_converters.errors import CompiledModelError

    if choice.device is not None and "onnx" in needs(choice.device):
        reason = f"device {choice.device.name!r} runs a segment's ONNX, which is not in it"
    else:
        reason = choice.reason
    if reason or choice.device is None:
        raise ort_error(
            "Fail",
            f"a bare .rknn file runs on an NPU only: {reason}. "
            "Elsewhere convert its ONNX model (ort-rknn convert) and open the result",
        )
    shapes = {name: listed[0] for name, listed in options.shapes.items()}
    try:
        types = _asked(choice.device, model) if unknown_types(model) else {}
        compiled = load_bare(model, shapes, types)
        sets = () if shapes else shape_sets(model)
        stub = open_stub(model, types) if sets else None
    except CompiledModelError as error:
        raise ort_error("InvalidGraph", str(error)) from error
    if "rknn" in needs(choice.device) and choice.target not in compiled.targets:
        text = f"this .rknn file was compiled for {', '.join(compiled.targets)}, and this is a {choice.target}"
        raise ort_error("Fail", text)
    if stub is None:
        return Resolution(compiled, choice.device, choice.target)
    loaders = {variant_key(one): partial(load_bare, model, one, types) for one in sets}
    refusal = f"this .rknn file has no code for these input shapes; there is {', '.join(map(name_of, loaders))}"
    return Resolution(None, choice.device, choice.target, bundle=CompiledForms(loaders, None, stub, refusal))


def _asked(device: Device, model: str | bytes) -> Mapping[str, str]:
    """The types of a ``.rknn`` file's inputs and outputs by the vendor's runtime, where the device has that at hand.

    Raises:
        Exception: onnxruntime's ``Fail`` where the runtime does not open the file.
    """
    from ort_rknn_converters.onnx_file.blobs import BytesBlob, FileBlob

    ask: Callable[[Blob], Mapping[str, str]] | None = getattr(device, "io_types", None)
    if ask is None:
        return {}
    try:
        return ask(BytesBlob(model) if isinstance(model, bytes) else FileBlob(model))
    except RknnError as error:
        raise ort_error("Fail", f"the device cannot run this compiled model: {error}") from error


def _place(compiled: CompiledModel, choice: Choice, asked: str | None) -> Resolution:
    reason = _obstacle(compiled.targets, choice, asked)
    if not reason:
        return Resolution(_seen_by(compiled, choice.target), choice.device, choice.target)
    _demand_onnx(compiled, reason)
    return replace(_on_cpu(choice, reason), compiled=compiled)


def _place_bundle(bundle: Bundle, choice: Choice, asked: str | None) -> Resolution:
    """The form that fits the SoC, for each set of shapes and values."""
    reason = _obstacle(bundle.targets, choice, asked)
    forms: dict[VariantKey, Variant] = {}
    for variant in bundle.variants:
        key = variant_key(variant.shapes, variant.values)
        if key not in forms or choice.target in variant.targets:
            forms[key] = variant
    first = next(iter(forms.values())).load()
    if reason:
        _demand_onnx(first, reason)
    resolution = _on_cpu(choice, reason) if reason else Resolution(None, choice.device, choice.target)
    if () in forms:
        return replace(resolution, compiled=_seen_by(forms[()].load(), choice.target))
    exist = ", ".join(map(name_of, forms))
    loaders = {key: partial(_loaded_for, choice.target, variant) for key, variant in forms.items()}
    kinds = kinds_of(forms)
    refusal = f"this compiled model has no code for these input {kinds}, and its ONNX was left out; there is {exist}"
    return replace(resolution, bundle=CompiledForms(loaders, bundle.original, first.stub, refusal))


def _loaded_for(target: str, variant: Variant) -> CompiledModel:
    return _seen_by(variant.load(), target)


def _seen_by(compiled: CompiledModel, target: str) -> CompiledModel:
    """The model with the plan of this SoC: several that share a cut share a plan, which is that of the first."""
    plan = compiled.plan
    if target == plan.target or target not in compiled.targets:
        return compiled
    sizes = {step.name: step.code[target].size for step in compiled.npu_steps if target in step.code}
    segments = tuple(replace(one, size=sizes.get(one.name), seconds=None) for one in plan.segments)
    return replace(compiled, plan=replace(plan, target=target, segments=segments))


def _obstacle(targets: Sequence[str], choice: Choice, asked: str | None) -> str:
    if "rknn" in needs(choice.device) and choice.target not in targets:
        return f"the model was compiled for {', '.join(targets)}, and this is a {choice.target}"
    if choice.device is not None and asked is not None and asked not in targets:
        return (
            f"the model was compiled for {', '.join(targets)}, and the option target says {asked}. Convert it for"
            f" {asked}, or leave the option away"
        )
    return choice.reason


def _demand_onnx(compiled: CompiledModel, reason: str) -> None:
    if any(step.onnx is None for step in compiled.npu_steps):
        raise ort_error(
            "Fail",
            f"this compiled model cannot run here: {reason}. It was stripped of its ONNX, so the CPU cannot run it "
            "either; convert the original ONNX model again for this target, or without stripping",
        )


def _on_cpu(choice: Choice, reason: str) -> Resolution:
    say_once("device", f"the compiled model's segments run on the CPU: {reason}")
    from ort_rknn.devices.cpu import CpuDevice

    return Resolution(None, CpuDevice(), choice.target, reason)
