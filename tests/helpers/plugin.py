"""The plugin execution provider of this source tree, and sessions of plain onnxruntime with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import onnxruntime

from ort_rknn_converters.compiled.model import CompiledModel
from ort_rknn_converters.onnx_file.blobs import BytesBlob
from tests.helpers.compiled_models import sample
from tests.helpers.emulator import ABI, Model, Tensor, build_emulator, compile_library

NAME = "RKNNExecutionProvider"
VERSION = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
"""onnxruntime's, to the second number."""
REGISTERED = "ort_rknn_tests"
SHARED = ("blocks.c", "interleave.c", "interleave_half.c", "segment.c")
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")


def plugin_sources() -> list[Path]:
    """The C files of the library."""
    return [*sorted((ABI / "ep").glob("*.c")), *(ABI / name for name in SHARED)]


def build_plugin(*flags: str, compiler: str | None = None) -> Path:
    """The path of ``libonnxruntime_ep_rknn.so``, built if need be."""
    links = ("-fvisibility=hidden", "-Wl,-z,nodelete", "-Wl,--no-as-needed", "-lm", "-ldl")
    return compile_library(
        plugin_sources(),
        "libonnxruntime_ep_rknn.so",
        *(flags or ("-O2",)),
        '-DEP_VERSION="9.8.7"',
        *links,
        compiler=compiler,
    )


@contextmanager
def registered(runtime: Path | None, library: Path | None = None, name: str = REGISTERED) -> Iterator[list[Any]]:
    """The plugin registered with onnxruntime while the block runs; gives its devices.

    Args:
        runtime: The emulated runtime that the environment names meanwhile; ``None``: nothing is named.
        library: The plugin; default: this source tree's.
        name: What it is registered as.
    """
    named = {} if runtime is None else {"ORT_RKNN_RUNTIME_LIBRARY": str(runtime)}
    with mock.patch.dict(os.environ, named):
        if runtime is None:
            os.environ.pop("ORT_RKNN_RUNTIME_LIBRARY", None)
        onnxruntime.register_execution_provider_library(name, str(library or build_plugin()))
        try:
            yield devices()
        finally:
            onnxruntime.unregister_execution_provider_library(name)


def devices() -> list[Any]:
    """The plugin's devices, as onnxruntime lists them now."""
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == NAME]


def plugin_session(model: str | Path | bytes, *, entries: Mapping[str, str] | None = None, **options: Any) -> Any:
    """A session of plain onnxruntime on the registered plugin's device.

    Args:
        model: Path or bytes of a compiled model.
        entries: Session configuration entries.
        **options: Provider options.
    """
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    for key, value in (entries or {}).items():
        settings.add_session_config_entry(key, value)
    settings.add_provider_for_devices(devices(), {name: str(value) for name, value in options.items()})
    source = model if isinstance(model, bytes) else str(model)
    # Old ones would try once more without the provider, and say what comes of that.
    return onnxruntime.InferenceSession(source, settings, enable_fallback=False)


MODELS = {
    "npu_0": Model((Tensor("x", "float16", (1, 3, 8, 8), "nhwc"),), (Tensor("m", "float16", (1, 4, 8, 8), "nchw"),)),
    "npu_1": Model((Tensor("q", "float16", (1, 4, 8, 8), "nhwc"),), (Tensor("y", "float16", (1, 4, 8, 8), "nchw"),)),
}
"""Emulated code of the segments of :func:`tests.helpers.compiled_models.sample`."""


def with_code(compiled: CompiledModel, models: Mapping[str, Model], targets: tuple[str, ...] = ()) -> CompiledModel:
    """A compiled model whose segments have emulated code."""
    from dataclasses import replace

    steps = tuple(
        replace(
            step,
            code={soc: BytesBlob(replace(models[step.name], target=soc).data()) for soc in targets or compiled.targets},
        )
        if step.kind == "npu"
        else step
        for step in compiled.steps
    )
    return replace(compiled, steps=steps)


def emulated_sample(targets: tuple[str, ...] = ("rk3588",)) -> CompiledModel:
    """The sample model with code the emulated runtime runs: two segments and four nodes on the CPU."""
    return with_code(sample(targets), MODELS)


def shim_session(model: str | Path | bytes, **options: Any) -> Any:
    """The package's own session on the same emulated NPU."""
    import ort_rknn

    given = {"device": "npu", "target": "rk3588", "runtime_library": str(build_emulator())} | options
    source = model if isinstance(model, bytes) else str(model)
    return ort_rknn.InferenceSession(source, providers=[(NAME, given)])


def one_segment(
    model: Model, dtypes: Mapping[str, str] | None = None, shapes: Mapping[str, tuple[int, ...] | None] | None = None
) -> bytes:
    """An ONNX model that is one EPContext node, as a tool other than ours may write it.

    Args:
        model: Its code.
        dtypes: ONNX types of tensors, where they are not those :func:`tests.helpers.emulated_npu.spec` gives.
        shapes: ONNX shapes, where they are not the code's; ``None`` says nothing.
    """
    from onnx import helper

    from tests.helpers.emulated_npu import spec

    def values(tensors: tuple[Tensor, ...]) -> list[Any]:
        specs = [spec(tensor, (dtypes or {}).get(tensor.name)) for tensor in tensors]
        return [
            helper.make_tensor_value_info(
                one.name, helper.np_dtype_to_tensor_dtype(one.dtype), (shapes or {}).get(one.name, one.shape)
            )
            for one in specs
        ]

    node = helper.make_node(
        "EPContext",
        [tensor.name for tensor in model.inputs],
        [tensor.name for tensor in model.outputs],
        name="segment",
        domain="com.microsoft",
        source=NAME,
        embed_mode=1,
        main_context=1,
        ep_cache_context=model.data(),
    )
    graph = helper.make_graph([node], "g", values(model.inputs), values(model.outputs))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
