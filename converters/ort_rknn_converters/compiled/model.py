"""The compiled model: the value that travels from the converters to the runtime.

It has two storage forms. The *EPContext form* (:meth:`CompiledModel.save`) is one ordinary ONNX file that users copy to
a board, see :mod:`ort_rknn_converters.compiled.epcontext_write`. The *folder form* (:meth:`CompiledModel.save_folder`)
is a private folder used by the cache; it opens without importing onnx, see
:mod:`ort_rknn_converters.compiled.folder_format`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ort_rknn_converters.compiled.values import CompiledParts
from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.util.frozen import rows_of

if TYPE_CHECKING:
    import onnx

    from ort_rknn_converters.onnx_file.split_model import SplitModel

__all__ = ["CompiledModel", "is_compiled"]


class CompiledModel(CompiledParts):
    """A converted model: everything a session needs, on a PC or on a board."""

    @classmethod
    def of(cls, parts: CompiledParts) -> CompiledModel:
        """Returns the model of these parts."""
        return cls(**{name: getattr(parts, name) for name in rows_of(parts)})

    def to_onnx(self, *, strip: bool = False) -> onnx.ModelProto:
        """The EPContext form with the compiled code embedded.

        Args:
            strip: Leave out the segments' own ONNX; then only an NPU can run them.

        Raises:
            CompiledModelError: It is larger than one message can be; the message says what to do.
        """
        return self._in_one(strip).whole()

    def to_bytes(self, *, strip: bool = False) -> bytes:
        """:meth:`to_onnx`, serialized."""
        return self._in_one(strip).read()

    def _in_one(self, strip: bool) -> SplitModel:
        from ort_rknn_converters.compiled.epcontext_write import build_epcontext

        model, _ = build_epcontext(self, strip=strip)
        if not model.fits_in_one:
            raise CompiledModelError(
                "the compiled model would exceed protobuf's 2 GB: save it to a file, which puts its weights beside it"
            )
        return model

    def save(self, path: str | os.PathLike[str], *, embed: bool = True, strip: bool = False) -> tuple[Path, ...]:
        """Write the EPContext form: all of it, or nothing.

        Args:
            path: The file to write; an existing one is replaced in one step.
            embed: Put the compiled code inside; otherwise beside it, as
                ``<stem>_RKNNExecutionProvider_<segment>.rknn`` (``.<SoC>.rknn`` where there are several).
            strip: Leave out the segments' own ONNX; then only an NPU can run them.

        Returns:
            The files written, the model first.

        Raises:
            CompiledModelError: The folder does not exist or cannot be written.
        """
        from ort_rknn_converters.compiled.epcontext_write import save_epcontext

        return save_epcontext(self, path, embed=embed, strip=strip)

    @classmethod
    def load(cls, model: str | os.PathLike[str] | bytes, folder: Path | None = None) -> CompiledModel:
        """Read the EPContext form.

        Args:
            model: Path or bytes.
            folder: Where the files are that belong to bytes.

        Raises:
            FileNotFoundError: There is no such file.
            CompiledModelError: It is not a compiled model of ours, or it is damaged; the message says what to do.
        """
        from ort_rknn_converters.compiled.epcontext_read import load_epcontext

        return cls.of(load_epcontext(model, folder))

    def save_folder(self, directory: str | os.PathLike[str]) -> None:
        """Write the private fast form into an empty or missing folder. Not atomic: the cache renames the folder.

        Raises:
            OSError: The folder cannot be written.
        """
        from ort_rknn_converters.compiled.folder_format import save_folder

        save_folder(self, Path(directory))

    @classmethod
    def load_folder(cls, directory: str | os.PathLike[str]) -> CompiledModel:
        """Read the private fast form. Imports neither onnx nor onnxruntime; the parts are read when needed.

        Raises:
            CompiledModelError: The folder is missing, incomplete, damaged or of another version.
        """
        from ort_rknn_converters.compiled.folder_format import load_folder

        return cls.of(load_folder(Path(directory)))


def is_compiled(model: str | os.PathLike[str] | bytes) -> bool:
    """Whether a file or its bytes is an EPContext model of ours.

    Reads the outermost fields and the nodes' heads only, never the weights, and does not import onnx. What is not
    readable as ONNX at all is not a compiled model either.

    Raises:
        FileNotFoundError: There is no such file.
    """
    from ort_rknn_converters.onnx_file.protobuf_wire import is_compiled

    return is_compiled(model)
