"""Stands in for rknn-toolkit2 where the compiled code is for the emulated NPU: the right tensors, made-up numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
from onnx import helper

from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult
from tests.helpers.emulator import Model, Tensor, build_emulator
from tests.helpers.toolkits.fake import CONVERT, fake_compile

__all__ = ["emulated_npu", "emulated_toolkit"]


def emulated_compile(request: CompileRequest, *, padding: int = 0, **more: Any) -> CompileResult:
    """What the toolkit answers, its code in the emulator's text form."""
    graph = onnx.load_model_from_string(b"".join((request.model, *request.weights))).graph
    weights = {weight.name for weight in graph.initializer}
    code = Model(
        tuple(_tensor(value, "nhwc") for value in graph.input if value.name not in weights),
        tuple(_tensor(value, "nchw") for value in graph.output),
        target=request.target,
        padding=padding,
    )
    return replace(fake_compile(request, **more), rknn=code.data())


def _tensor(value: onnx.ValueInfoProto, order: str) -> Tensor:
    kind = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    shape = tuple(dim.dim_value for dim in kind.shape.dim)
    stored = "float16" if dtype.kind == "f" else dtype.name
    return Tensor(value.name, stored, shape or (1,), order if len(shape) == 4 else "-")


@contextmanager
def emulated_toolkit(cache: Path, *, padding: int = 0, seen: list[CompileRequest] | None = None) -> Iterator[None]:
    """Conversions inside make code for the emulated NPU and keep it in ``cache``.

    Args:
        cache: The cache's folder.
        padding: Bytes the code has more: the emulator counts its size as the weights'.
        seen: Is given what was compiled.
    """

    def compile_segment(request: CompileRequest, **more: Any) -> CompileResult:
        if seen is not None:
            seen.append(request)
        return emulated_compile(request, padding=padding, **more)

    with (
        mock.patch.object(CONVERT, "compile_segment", compile_segment),
        mock.patch.dict(os.environ, {"ORT_RKNN_CACHE_DIR": str(cache)}),
    ):
        yield


def emulated_npu() -> dict[str, str]:
    """Provider options of a session on the emulated NPU."""
    return {"device": "npu", "runtime_library": str(build_emulator()), "target": "rk3588", "min_gain": "0"}
