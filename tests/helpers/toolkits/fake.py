"""Stands in for rknn-toolkit2: compiled code is a stub, its simulator is onnxruntime. Everything else is real."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime

from ort_rknn_converters.cache import store
from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult

__all__ = ["CONVERT", "compile_in_thread", "fake_compile", "fake_toolkit"]

CONVERT = import_module("ort_rknn_converters.pipeline.convert")
"""The module; the package has a function of the same name."""


def fake_compile(request: CompileRequest, **_: Any) -> CompileResult:
    """The answer of a toolkit that computes exactly what onnxruntime computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = b"".join((request.model, *request.weights))
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    del content
    names = [output.name for output in session.get_outputs()]

    def answer(feed: Mapping[str, Any]) -> dict[str, Any]:
        values = zip(names, session.run(names, dict(feed)), strict=True)
        return {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in values}

    return CompileResult(
        rknn=b"RKNN\0\0\0\0 a stub",
        outputs=tuple(answer(feed) for feed in request.feeds),
        seconds={"total": 0.0},
        peak_rss=0,
        log="",
        layers=(),
        no_lowering=(),
        toolkit_version="2.5.0",
    )


def compile_in_thread(model: Any, options: Any, cache_dir: Any, _ticket: Any) -> Any:
    """In place of the child process, to which nothing could be handed."""
    return store.load_or_convert(model, options, cache_dir=cache_dir)


@contextmanager
def fake_toolkit(folder: Path) -> Iterator[None]:
    """Conversions inside use :func:`fake_compile` and keep their results in ``folder``."""
    with (
        mock.patch.object(CONVERT, "compile_segment", fake_compile),
        mock.patch("ort_rknn.opening.open_dynamic.compile_in_child", compile_in_thread),
        mock.patch.dict(os.environ, {"ORT_RKNN_CACHE_DIR": str(folder)}),
    ):
        yield
