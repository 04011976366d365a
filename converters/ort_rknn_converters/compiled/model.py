"""The compiled model: the value that travels from the converters to the runtime.

It has two storage forms. The *EPContext form* (:meth:`CompiledModel.save`) is one ordinary ONNX file that users copy to
a board, see :mod:`ort_rknn_converters.compiled.epcontext_write`. The *pieces form* (:meth:`CompiledModel.save_pieces`)
is a private folder used by the cache; it opens without importing onnx, see
:mod:`ort_rknn_converters.compiled.folder_format`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ort_rknn_converters.errors import CompiledModelError
from ort_rknn_converters.onnx_file.blobs import Blob, BytesBlob, FileBlob
from ort_rknn_converters.partition.plan import Plan, Segment, TensorInfo
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    import onnx

    from ort_rknn_converters.onnx_file.split_model import Parted

__all__ = [
    "PROVIDER",
    "Blob",
    "BytesBlob",
    "CompiledModel",
    "CpuStep",
    "FileBlob",
    "NpuStep",
    "Step",
    "is_compiled",
]

PROVIDER = "RKNNExecutionProvider"
"""Name of the execution provider: the ``source`` of our EPContext nodes."""


@frozen
class CpuStep:
    """A part of the model that onnxruntime's CPU provider runs.

    Attributes:
        name: ``cpu_0``, ``cpu_1`` ... in execution order.
        model: A standalone ONNX model.
        inputs: Names of the values it reads, in the order of its graph inputs.
        outputs: Names of the values it gives, in the order of its graph outputs.
    """

    name: str
    model: Blob
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def kind(self) -> Literal["cpu"]:
        """What runs it."""
        return "cpu"


@frozen
class NpuStep:
    """A part of the model that was compiled for the NPU.

    Attributes:
        name: The segment's name, ``npu_0``, ``npu_1`` ... in execution order.
        segment: Its entry in the plan.
        inputs: What it reads, as ONNX declares it, in the order of the compiled code's inputs.
        outputs: What it gives, as ONNX declares it, in the order of the compiled code's outputs.
        code: SoC name -> the vendor's compiled code (``.rknn``).
        onnx: The segment as standalone ONNX, for a simulator or the CPU; ``None`` when it was stripped.
        precision: ``fp16``, ``int8`` ...
        toolkit_version: Version of the rknn-toolkit2 that compiled it.
        dynamic: Whether the code holds several sets of input shapes, of which these are one: so only in bare files.
    """

    name: str
    segment: Segment
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    code: Mapping[str, Blob]
    onnx: Blob | None
    precision: str = "fp16"
    toolkit_version: str = ""
    dynamic: bool = False

    @property
    def kind(self) -> Literal["npu"]:
        """What runs it."""
        return "npu"


Step: TypeAlias = "CpuStep | NpuStep"


@frozen
class CompiledModel:
    """A converted model: everything a session needs, on a PC or on a board.

    Attributes:
        shell: An ONNX model with the original inputs, outputs and metadata and next to no computation. An
            onnxruntime session of it answers ``get_inputs``, ``get_outputs`` and ``get_modelmeta``; it must not be run.
        steps: In execution order. A step's inputs are graph inputs or outputs of steps before it; each graph output is
            an output of a step, or a graph input passed through.
        plan: Which node runs where, and why.
        targets: SoCs there is code for.
        toolkit_version: Version of rknn-toolkit2; ``""`` when nothing was compiled.
        passes: What preparation changed, one sentence each.
    """

    shell: Blob
    steps: tuple[Step, ...]
    plan: Plan
    targets: tuple[str, ...]
    toolkit_version: str = ""
    passes: tuple[str, ...] = ()

    @property
    def npu_steps(self) -> tuple[NpuStep, ...]:
        """The compiled segments, in execution order."""
        return tuple(step for step in self.steps if isinstance(step, NpuStep))

    @property
    def cpu_steps(self) -> tuple[CpuStep, ...]:
        """The parts left to onnxruntime, in execution order."""
        return tuple(step for step in self.steps if isinstance(step, CpuStep))

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

    def _in_one(self, strip: bool) -> Parted:
        from ort_rknn_converters.compiled.epcontext_write import build
        from ort_rknn_converters.onnx_file.split_model import INSIDE_LIMIT

        model, _ = build(self, strip=strip)
        if model.weight > INSIDE_LIMIT:
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
        from ort_rknn_converters.compiled.epcontext_write import save

        return save(self, path, embed=embed, strip=strip)

    @classmethod
    def load(cls, model: str | os.PathLike[str] | bytes) -> CompiledModel:
        """Read the EPContext form.

        Raises:
            FileNotFoundError: There is no such file.
            CompiledModelError: It is not a compiled model of ours, or it is damaged; the message says what to do.
        """
        from ort_rknn_converters.compiled.epcontext_read import load

        return load(model)

    def save_pieces(self, directory: str | os.PathLike[str]) -> None:
        """Write the private fast form into an empty or missing folder. Not atomic: the cache renames the folder.

        Raises:
            OSError: The folder cannot be written.
        """
        from ort_rknn_converters.compiled.folder_format import save_pieces

        save_pieces(self, Path(directory))

    @classmethod
    def load_pieces(cls, directory: str | os.PathLike[str]) -> CompiledModel:
        """Read the private fast form. Imports neither onnx nor onnxruntime; the parts are read when needed.

        Raises:
            CompiledModelError: The folder is missing, incomplete, damaged or of another version.
        """
        from ort_rknn_converters.compiled.folder_format import load_pieces

        return load_pieces(Path(directory))


def is_compiled(model: str | os.PathLike[str] | bytes) -> bool:
    """Whether a file or its bytes is an EPContext model of ours.

    Reads the outermost fields and the nodes' heads only, never the weights, and does not import onnx. What is not
    readable as ONNX at all is not a compiled model either.

    Raises:
        FileNotFoundError: There is no such file.
    """
    from ort_rknn_converters.onnx_file.protobuf_wire import is_compiled

    return is_compiled(model)
