"""Writes compiled models where and how onnxruntime's own options say: ``ep.context_*`` and ``ModelCompiler``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_rknn.ort_conventions import ort_error
from ort_rknn.ort_types.session_options import config_entry
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import is_folder, is_there

if TYPE_CHECKING:
    from ort_rknn_converters.compiled.model import CompiledModel

__all__ = ["EpContextOptions", "refuse_existing", "write_context"]

_EXISTS = (
    "Failed to generate EP context model since the file '\"{}\"' exists already. "
    "Please remove the EP context model if you want to re-generate it."
)
_FOLDER = "context_file_path should not point to a folder."


@frozen
class EpContextOptions:
    """A session's wish to have its compiled model written.

    Attributes:
        path: The file.
        embed: Put the compiled code inside; onnxruntime's default is beside it.
        prefix: In front of the names of the compiled nodes.
        weights_file: Name of the file, beside the model, that takes the weights; empty keeps them inside.
    """

    path: Path
    embed: bool
    prefix: str = ""
    weights_file: str = ""

    @classmethod
    def of(cls, sess_options: Any, model_path: str) -> EpContextOptions:
        """The wish in session options where :data:`~ort_rknn.ort_types.session_options.CONTEXT_ENABLE` is ``"1"``.

        Raises:
            InvalidArgument: onnxruntime's, for a model from bytes without a path, and for a folder.
        """
        named = config_entry(sess_options, "ep.context_file_path")
        if not named and not model_path:
            raise ort_error("InvalidArgument", "Both ep_context_path and model_path are empty.")
        path = Path(named) if named else Path(model_path).with_name(f"{Path(model_path).stem}_ctx.onnx")
        if is_folder(path):
            raise ort_error("InvalidArgument", _FOLDER)
        return cls(
            path,
            embed=config_entry(sess_options, "ep.context_embed_mode") == "1",
            prefix=config_entry(sess_options, "ep.context_node_name_prefix"),
            weights_file=config_entry(sess_options, "ep.context_model_external_initializers_file_name"),
        )

    def write(self, compiled: CompiledModel) -> None:
        """Write a compiled model.

        Raises:
            Fail: onnxruntime's; the file exists already, or cannot be written.
        """
        refuse_existing(self.path)
        write_context(compiled, self.path, embed=self.embed, prefix=self.prefix, weights_file=self.weights_file)


def refuse_existing(path: Path) -> None:
    """Raise what onnxruntime raises instead of writing over a file."""
    if is_there(path):
        raise ort_error("Fail", _EXISTS.format(path))


def write_context(
    compiled: CompiledModel,
    path: Path,
    *,
    embed: bool,
    prefix: str = "",
    weights_file: str = "",
    threshold: int = 1024,
) -> None:
    """Write a compiled model.

    Args:
        compiled: The model.
        path: The file.
        embed: Put the compiled code inside.
        prefix: In front of the names of the compiled nodes.
        weights_file: Name of the file, beside the model, that takes weights of more than ``threshold`` bytes.
        threshold: See there; onnxruntime's default.

    Raises:
        InvalidArgument: onnxruntime's; the path is a folder, or its folder does not exist.
        Fail: onnxruntime's; it cannot be written.
    """
    from ort_rknn_converters.compiled import epcontext_write
    from ort_rknn_converters.errors import CompiledModelError

    if is_folder(path):
        raise ort_error("InvalidArgument", _FOLDER)
    if not is_folder(path.parent):
        raise ort_error("InvalidArgument", f'open file "{path}" failed: No such file or directory')
    try:
        model, beside = epcontext_write.build_epcontext(compiled, stem=None if embed else path.stem, prefix=prefix)
        epcontext_write.write_model(model, beside, path, weights_file=weights_file, threshold=threshold)
    except CompiledModelError as error:
        raise ort_error("Fail", str(error)) from error
