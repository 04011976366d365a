"""Values read from a ``.rknn`` file: its inputs and outputs, and the compiled graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ort_rknn_converters.util.frozen import frozen

__all__ = ["Quantization", "RknnFile", "RknnIO", "RknnNode", "RknnSubgraph", "RknnTensor"]


@frozen
class Quantization:
    """``real = (stored - zero_point) * scale``; one element for the whole tensor, or one per channel."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()


@frozen
class RknnTensor:
    """A tensor of the compiled graph.

    Attributes:
        name: As the compiler calls it; ONNX names survive for what was not fused away.
        dtype: As stored on the device.
        dims: In ONNX's order.
        kind: input, output, internal, constant, commands or tasks.
        native_layout: ``NC1HWC2``, ``weights``, or empty for the plain order.
        size: Bytes on the device.
        quantization: Of integer tensors that stand for real numbers.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    kind: str
    native_layout: str
    size: int
    quantization: Quantization | None


@frozen
class RknnNode:
    """An operation: what it is and where it runs (``NPU``, ``CPU`` or ``GPU``), with its tensors' names."""

    op_type: str
    name: str
    placement: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@frozen
class RknnSubgraph:
    """The compiled graph for one set of input shapes; ``inputs`` and ``outputs`` are tensor names."""

    tensors: tuple[RknnTensor, ...]
    nodes: tuple[RknnNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@frozen
class RknnIO:
    """An input or output of the whole file.

    Attributes:
        name: ONNX name.
        dims: Of the largest shape set; rank 0 is ``(1,)``.
        dtype: The ONNX dtype as the toolkit understood it (float16 and float64 appear as float32); empty if unknown.
        device_dtype: As the NPU keeps it; empty if unknown.
        layout: What the runtime wants or gives: ``NHWC``, ``NCHW`` or ``UNDEFINED``; empty if unknown.
        index: Position in the ONNX model's own list (the toolkit drops unused inputs and constant outputs), or None.
        quantization: Of an integer device dtype.
        shapes: Every shape it can have, in a file with several.
    """

    name: str
    dims: tuple[int, ...]
    dtype: str = ""
    device_dtype: str = ""
    layout: str = ""
    index: int | None = None
    quantization: Quantization | None = None
    shapes: tuple[tuple[int, ...], ...] = ()


@frozen
class RknnFile:
    """All that a ``.rknn`` file says about itself.

    Attributes:
        format_version: 6, or 0x1004 for the mini format.
        size: Bytes of the file.
        target: The SoC, such as ``rk3588``.
        family: The compiler's name of the NPU generation, such as ``RKNPU v2``.
        framework: What the model was, such as ``ONNX``.
        toolkit_version: Such as ``2.5.0``.
        compiler: Version and build of the compiler.
        custom_string: What the maker put in.
        dynamic: Whether it holds several sets of input shapes.
        inputs: In the file's order, which is the order the runtime wants.
        outputs: In the file's order.
        subgraphs: One per set of shapes; empty where the graph cannot be read.
        problem: Why the graph could not be read; empty when it could.
    """

    format_version: int
    size: int
    target: str
    family: str
    framework: str
    toolkit_version: str
    compiler: str
    custom_string: str
    dynamic: bool
    inputs: tuple[RknnIO, ...]
    outputs: tuple[RknnIO, ...]
    subgraphs: tuple[RknnSubgraph, ...] = field(repr=False)
    problem: str = ""

    @property
    def nodes(self) -> tuple[RknnNode, ...]:
        """The nodes of the first (largest) subgraph."""
        return self.subgraphs[0].nodes if self.subgraphs else ()

    @property
    def tensors(self) -> Mapping[str, RknnTensor]:
        """The tensors of the first (largest) subgraph by name."""
        return {tensor.name: tensor for tensor in self.subgraphs[0].tensors} if self.subgraphs else {}
