"""The models of which the contract is asked, named as the record of librknnrt 1.6.0 names them."""

from __future__ import annotations

from collections.abc import Iterator

from ort_rknn_conformance.doctor.board_models import CONVOLUTION, MODELS, read_dynamic

__all__ = ["contract_models"]


def contract_models(target: str) -> Iterator[tuple[str, bytes, bool]]:
    """Name, compiled code, and whether it was compiled for sets of shapes.

    Args:
        target: SoC.

    Raises:
        FileNotFoundError: There are no bundled models for this SoC.
    """
    from ort_rknn_converters.compiled.model import CompiledModel

    for model in MODELS:
        for step in CompiledModel.load(model.read(target)).npu_steps:
            name = step.name if model is CONVOLUTION else f"{model.name}-{step.name}"
            yield name, step.code[target].read(), False
    yield "dynamic", read_dynamic(target), True
