"""``ModelCompiler``: onnxruntime's own class, which also compiles for the NPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_rknn.errors import InvalidOption
from ort_rknn.opening.epcontext_options import refuse_existing, write_context
from ort_rknn.options.table import RknnOptions
from ort_rknn.ort_conventions import ort_error
from ort_rknn.ort_private.native import start_native
from ort_rknn.ort_private.own import public
from ort_rknn.signatures import shown_as_theirs
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn_converters.compiled.model import CompiledModel

__all__ = ["ModelCompiler"]


@shown_as_theirs
class ModelCompiler(public("ModelCompiler")):  # type: ignore[misc]
    """onnxruntime's ``ModelCompiler``.

    It compiles for the NPU when ``RKNNExecutionProvider`` was added to the session options (``add_provider``); a model
    of which nothing is for the NPU is written as onnxruntime writes it. No NPU is needed, only the toolkit.

    Args:
        sess_options: Session options with the provider and its options.
        input_model_path_or_bytes: As onnxruntime's.
        embed_compiled_data_into_model: Put the compiled code inside. Bytes and streams always have it inside.
        external_initializers_file_path: As onnxruntime's; relative to the output model.
        external_initializers_size_threshold: As onnxruntime's.
        flags: As onnxruntime's.
        **more: As onnxruntime's.
    """

    def __init__(
        self,
        sess_options: Any,
        input_model_path_or_bytes: Any,
        embed_compiled_data_into_model: bool = False,
        external_initializers_file_path: Any = None,
        external_initializers_size_threshold: int = 1024,
        flags: Any = 0,
        *args: Any,
        **more: Any,
    ) -> None:
        flags = public("OrtCompileApiFlags")(int(flags)) if not isinstance(flags, int) and flags != 0 else flags
        super().__init__(
            sess_options,
            input_model_path_or_bytes,
            embed_compiled_data_into_model,
            external_initializers_file_path,
            external_initializers_size_threshold,
            flags or public("OrtCompileApiFlags").NONE,
            *args,
            **more,
        )
        self._rknn_options = getattr(sess_options, "_rknn_provider", None)
        self._rknn_sess_options = sess_options
        is_bytes = isinstance(input_model_path_or_bytes, bytes)
        self._rknn_model = input_model_path_or_bytes if is_bytes else os.fspath(input_model_path_or_bytes)
        self._rknn_embed = embed_compiled_data_into_model
        self._rknn_weights = (external_initializers_file_path or "", external_initializers_size_threshold)
        self._rknn_flags = int(flags)

    def compile_to_file(self, output_model_path: Any = None) -> None:
        """Compile to a file; to ``<model>_ctx.onnx`` beside a model that has a path when none is given."""
        compiled = self._rknn_compile()
        if compiled is None:
            super().compile_to_file(output_model_path)
            return
        if output_model_path:
            path = Path(output_model_path)
        elif isinstance(self._rknn_model, str):
            path = Path(self._rknn_model).with_name(f"{Path(self._rknn_model).stem}_ctx.onnx")
        else:
            raise ort_error("InvalidArgument", "Both ep_context_path and model_path are empty.")
        if self._rknn_flags & int(public("OrtCompileApiFlags").ERROR_IF_OUTPUT_FILE_EXISTS):
            refuse_existing(path)
        weights, threshold = self._rknn_weights
        write_context(
            compiled,
            path,
            embed=self._rknn_embed,
            weights_file=Path(weights).name if weights else "",
            threshold=threshold,
        )

    def compile_to_bytes(self) -> bytes:
        """Compile to the bytes of a model with everything inside."""
        compiled = self._rknn_compile()
        content: bytes = super().compile_to_bytes() if compiled is None else _in_one(compiled)
        return content

    def compile_to_stream(self, write_function: Callable[[bytes], None]) -> None:
        """Compile, and give the bytes of a model with everything inside to a function."""
        compiled = self._rknn_compile()
        if compiled is None:
            super().compile_to_stream(write_function)
        else:
            write_function(_in_one(compiled))

    def _rknn_compile(self) -> CompiledModel | None:
        """The compiled model; ``None`` for what is onnxruntime's to write or to refuse."""
        if self._rknn_options is None:
            return None
        from ort_rknn.devices.soc import detect
        from ort_rknn.opening.compile_notice import CompileNotice
        from ort_rknn.opening.resolve import convert_options
        from ort_rknn_converters.cache import store
        from ort_rknn_converters.compiled.model import is_compiled
        from ort_rknn_converters.errors import ConvertError, ModelError
        from ort_rknn_converters.options import ConvertOptions
        from ort_rknn_converters.targets import DEFAULT_TARGET
        from ort_rknn_converters.util.own_files import is_file

        model = self._rknn_model
        if isinstance(model, str) and not is_file(model):
            return None
        if is_compiled(model):
            return None
        options = RknnOptions.parse(self._rknn_options)
        target = options.target or detect().target or DEFAULT_TARGET

        def open_with_onnxruntime() -> Any:
            return start_native([], [], None, self._rknn_sess_options, model, set())

        wanted = convert_options(options, self._rknn_sess_options, target, open_with_onnxruntime, model)
        if not isinstance(wanted, ConvertOptions):
            if wanted.listed:
                raise InvalidOption(
                    "ModelCompiler compiles for one set of shapes and values; ort-rknn convert takes several"
                )
            return None  # open shapes: nothing can be compiled
        try:
            with CompileNotice(model, target) as notice:
                compiled = store.load_or_convert(model, wanted, cache_dir=options.cache_dir, progress=notice)
        except ModelError:
            open_with_onnxruntime()  # raises what onnxruntime says of the model
            raise
        except ConvertError as error:
            raise ort_error("Fail", str(error)) from error
        if compiled.provisional:
            logger().warning("less is on the NPU than could be: %s. Compile it again", compiled.provisional)
        return compiled if compiled.npu_steps else None


def _in_one(compiled: CompiledModel) -> bytes:
    from ort_rknn_converters.errors import CompiledModelError

    try:
        return compiled.to_bytes()
    except CompiledModelError as error:
        raise ort_error("Fail", str(error)) from error
