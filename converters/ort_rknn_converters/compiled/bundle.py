"""Several compiled forms of one model in one file: for several input shapes, pinned values and SoCs.

The file is the first form's ordinary EPContext model. The others, and the original ONNX for what was not compiled, lie
in it as byte tensors that nothing reads; what they share with the first form's weights is stored once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ort_rknn_converters.compiled import epcontext_read, epcontext_write
from ort_rknn_converters.compiled.bundle_weights import SharedWeights, restore, share
from ort_rknn_converters.compiled.forms import BUNDLE
from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.errors import CompiledModelError, ConvertError
from ort_rknn_converters.onnx_file.protobuf_wire import KEY_BUNDLE
from ort_rknn_converters.onnx_file.schema import ir
from ort_rknn_converters.onnx_file.split_model import SplitModel
from ort_rknn_converters.onnx_file.weights import LargeWeights
from ort_rknn_converters.util.frozen import frozen, replace
from ort_rknn_converters.util.plain_data import parse_json

__all__ = ["Bundle", "Variant", "merged", "same_cut"]

_FORMAT = 1
_BLOB = "ort_rknn.blob."
_NO_ORIGINAL = "it does not have the model's original ONNX"


@frozen
class Variant:
    """One compiled form.

    Attributes:
        shapes: The open inputs' shapes it was compiled for; empty where all shapes are the model's own.
        targets: SoCs it has code for.
        load: Gives the compiled model.
        values: The pinned values it was compiled for as JSON texts, where other forms have others.
    """

    shapes: Mapping[str, tuple[int, ...]]
    targets: tuple[str, ...]
    load: Callable[[], CompiledModel] = field(compare=False)
    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, shapes: Mapping[str, tuple[int, ...]], compiled: CompiledModel, values: Mapping[str, str] | None = None
    ) -> Variant:
        """The form that is at hand."""
        return cls(dict(shapes), compiled.targets, lambda: compiled, dict(values or {}))

    def __str__(self) -> str:
        shapes = [f"{name}={'x'.join(map(str, dims)) or 'scalar'}" for name, dims in self.shapes.items()]
        return " ".join([", ".join(self.targets), *shapes, *(f"{name}={text}" for name, text in self.values.items())])


@frozen
class Bundle:
    """The forms of one model.

    Attributes:
        variants: The compiled forms, the first one first.
        original: Gives the original ONNX; ``None`` when it is not there.
    """

    variants: tuple[Variant, ...]
    original: Callable[[], SplitModel] | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """SoCs there is code for."""
        return tuple(dict.fromkeys(target for variant in self.variants for target in variant.targets))

    def save(self, path: str | os.PathLike[str], *, embed: bool = True, strip: bool = False) -> tuple[Path, ...]:
        """Write all of it, or nothing.

        Args:
            path: The file to write.
            embed: Put the compiled code inside; otherwise beside it.
            strip: Leave out all ONNX that the NPU runs, the original included.

        Returns:
            The files written, the model first.

        Raises:
            CompiledModelError: It cannot be written.
        """
        path = Path(path)
        stem = None if embed else path.stem
        model, files = epcontext_write.build_epcontext(self.variants[0].load(), strip=strip, stem=stem)
        weights = SharedWeights(model)
        blobs: dict[str, SplitModel] = {}
        rows = [_row(self.variants[0])]
        for number, variant in enumerate(self.variants[1:], 1):
            other, more = epcontext_write.build_epcontext(
                variant.load(), strip=strip, stem=None if embed else f"{path.stem}_{number}"
            )
            files |= more
            blob = f"{_BLOB}{number}"
            blobs[blob] = share(other, weights)
            rows.append({**_row(variant), "blob": blob})
        original = None
        if self.original is not None and not strip:
            original = f"{_BLOB}original"
            blobs[original] = share(self.original(), weights)
        table = {"format": _FORMAT, "variants": rows, "original": original}
        model.skeleton.metadata_props.add(key=KEY_BUNDLE, value=json.dumps(table))
        inside = ((name, ir.Tensor(np.frombuffer(part.read(), np.uint8))) for name, part in blobs.items())
        return epcontext_write.write_model(
            replace(model, weights=LargeWeights((*model.weights.tensors, *inside))), files, path
        )

    @classmethod
    def load(cls, model: str | os.PathLike[str] | bytes) -> Bundle:
        """Read a bundle. The forms are read when they are asked for.

        Raises:
            FileNotFoundError: There is no such file.
            CompiledModelError: It is no bundle, or it is damaged.
        """
        name, folder, held = epcontext_read.parse_epcontext(model)
        table = next((entry.value for entry in held.skeleton.metadata_props if entry.key == KEY_BUNDLE), None)
        if table is None:
            raise CompiledModelError(f"{name} holds one compiled form only")
        try:
            facts = parse_json(table, BUNDLE)
            read = partial(_restored, name, held.initializers())
            inputs = {value.name for value in held.skeleton.graph.input}
            variants = []
            for row in facts["variants"]:
                blob = row.get("blob")
                load = (
                    partial(_load, name, folder, lambda: held)
                    if blob is None
                    else partial(_load, name, folder, partial(read, blob))
                )
                shapes = {key: tuple(map(int, dims)) for key, dims in row["shapes"].items()}
                if unknown := [key for key in (*shapes, *row.get("values", ())) if key not in inputs]:
                    raise CompiledModelError(
                        f"{name} is damaged: a form is for input {unknown[0]!r}, and there is none of that name."
                        " Convert the original ONNX model again"
                    )
                variants.append(Variant(shapes, tuple(row["targets"]), load, row.get("values", {})))
            original = facts["original"]
        except Exception as error:  # what libraries raise for damaged content differs between their versions
            if isinstance(error, ConvertError):
                raise
            raise CompiledModelError(f"{name} is damaged ({error!r}). Convert the original ONNX model again") from error
        return cls(tuple(variants), None if original is None else partial(read, original))


def _row(variant: Variant) -> dict[str, Any]:
    shapes = {name: list(shape) for name, shape in variant.shapes.items()}
    row = {"shapes": shapes, "targets": list(variant.targets)}
    return row | {"values": dict(variant.values)} if variant.values else row


def _restored(name: str, held: Mapping[str, ir.TensorProtocol], blob: str) -> SplitModel:
    if blob not in held:
        raise CompiledModelError(f"{name} lacks {blob}. Convert the original ONNX model again")
    try:
        part = SplitModel.parse(held[blob].tobytes())
    except Exception as error:  # protobuf's own class differs between its versions
        raise CompiledModelError(f"{name} is damaged ({error!r}). Convert the original ONNX model again") from error
    return restore(part, held)


def _load(name: str, folder: Path | None, read: Callable[[], SplitModel]) -> CompiledModel:
    return CompiledModel.of(epcontext_read.read_epcontext(name, folder, read()))


def same_cut(one: CompiledModel, other: CompiledModel) -> bool:
    """Whether two forms differ in their compiled code only: then one file entry serves both SoCs."""
    if len(one.steps) != len(other.steps) or one.stub != other.stub:
        return False
    return all(_same_step(*pair) for pair in zip(one.steps, other.steps, strict=True))


def _same_step(one: Any, other: Any) -> bool:
    if one.kind != other.kind or one.name != other.name:
        return False
    if one.kind == "cpu":
        return bool(one.model == other.model)
    return bool((one.inputs, one.outputs, one.onnx) == (other.inputs, other.outputs, other.onnx))


def merged(forms: Sequence[CompiledModel]) -> list[CompiledModel]:
    """Forms for several SoCs, those that differ in their code only made one."""
    kept: list[CompiledModel] = []
    for form in forms:
        for at, known in enumerate(kept):
            if same_cut(known, form):
                steps = tuple(
                    replace(step, code={**step.code, **twin.code})
                    if step.kind == "npu" and twin.kind == "npu"
                    else step
                    for step, twin in zip(known.steps, form.steps, strict=True)
                )
                kept[at] = replace(known, steps=steps, targets=known.targets + form.targets)
                break
        else:
            kept.append(form)
    return kept
