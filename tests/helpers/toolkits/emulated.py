"""Conversions whose compiled code the emulated runtime opens: its numbers are made up, but the same for the same feed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
from onnx import helper

from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult
from tests.helpers.emulator import Model, Tensor
from tests.helpers.toolkits.fake import CONVERT, fake_compile, fake_toolkit

__all__ = ["emulated_toolkit"]


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    return Tensor(value.name, "float16" if dtype == "float32" else dtype, shape, "nhwc" if len(shape) == 4 else "-")


@contextmanager
def emulated_toolkit(folder: Path, *, padding: int = 0, seen: list[CompileRequest] | None = None) -> Iterator[None]:
    """Conversions inside give the emulator's code, and keep it in ``folder``.

    Args:
        folder: The cache.
        padding: Bytes the code has more: the emulator counts its size as the weights'.
        seen: Is given what was compiled.
    """

    def compile_segment(request: CompileRequest, **_: Any) -> CompileResult:
        if seen is not None:
            seen.append(request)
        graph = onnx.load_model_from_string(b"".join((request.model, *request.weights))).graph
        weights = {weight.name for weight in graph.initializer}
        given = tuple(_tensor(value) for value in graph.input if value.name not in weights)
        made = tuple(replace(_tensor(value), layout="-") for value in graph.output)
        code = Model(given, made, target=request.target, padding=padding).data()
        return replace(fake_compile(request), rknn=code)

    with fake_toolkit(folder), mock.patch.object(CONVERT, "compile_segment", compile_segment):
        yield
