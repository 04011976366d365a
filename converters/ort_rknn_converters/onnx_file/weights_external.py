"""Weights in files beside a model, found where onnxruntime finds them: links are followed, but not out of a folder."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from ort_rknn_converters.errors import ModelError

__all__ = ["located"]


def located(tensor: ir.ExternalTensor, model: Path) -> ir.ExternalTensor:
    """The tensor with the absolute path of its file, which need not exist.

    Args:
        tensor: As the model describes it.
        model: The model's file. The weights lie in its folder or, where it is a link itself, in that of the file it
            points to: so Hugging Face's cache has them, where all names are links.

    Raises:
        ModelError: They would lie elsewhere.
    """
    folder = model.absolute().parent
    file = (folder / tensor.location).resolve()
    if not any(file.is_relative_to(allowed) for allowed in (folder.resolve(), model.resolve().parent)):
        raise ModelError(f"the weight {tensor.name} lies outside the folder of {model}, in {file}: copy it there")
    return ir.ExternalTensor(
        file, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name or ""
    )
