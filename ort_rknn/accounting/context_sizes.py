"""Sizes of contexts in NPU memory: asked of the runtime when one is opened, and remembered for the next of its code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ort_rknn.accounting.ledger import LEDGER
from ort_rknn.accounting.one_load import Code, code_key
from ort_rknn.errors import DeviceError

__all__ = ["expected_size", "measured_size"]


class Tensor(Protocol):
    """An input or output: :class:`ort_rknn.devices.base.TensorSpec`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions."""

    @property
    def dtype(self) -> Any:
        """Element type, numpy's."""


class Segment(Protocol):
    """Compiled code with its tensors: :class:`ort_rknn.devices.base.SegmentCode`."""

    @property
    def rknn(self) -> Code | None:
        """The code."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """Inputs of the segment."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """Outputs of the segment."""


class OpenContext(Protocol):
    """A context that was just opened: nobody uses it yet."""

    @property
    def code(self) -> Segment:
        """Segment that was opened."""

    @property
    def lender(self) -> object | None:
        """The context whose weights it shares, if any."""

    def memory(self) -> Mapping[str, int]:
        """Bytes as the runtime counts them."""


def _key(code: Segment, shares: bool) -> tuple[Any, ...]:
    assert code.rknn is not None
    return code_key(code.rknn), tuple(tensor.shape for tensor in code.inputs), shares


def expected_size(code: Segment, file_size: int, *, shares: bool) -> int:
    """Bytes of NPU memory that a context will take.

    They are known once the code was opened in this process. Before, its file and its inputs and outputs are taken for
    them, which leaves out what the runtime needs for the tensors in between.

    Args:
        code: The segment.
        file_size: Bytes of its compiled code.
        shares: Whether the weights are there already.
    """
    known = LEDGER.known(_key(code, shares))
    if known is not None:
        return known
    tensors = sum(math.prod(tensor.shape) * int(tensor.dtype.itemsize) for tensor in (*code.inputs, *code.outputs))
    return tensors + (0 if shares else file_size)


def measured_size(context: OpenContext, file_size: int) -> int:
    """Asks for the bytes of NPU memory a context takes, and remembers them.

    A context that shares weights has its internal tensors only. A runtime that does not say is taken to need as much
    as the code's file has.
    """
    shares = context.lender is not None
    try:
        sizes = context.memory()
    except DeviceError:
        return 0 if shares else file_size
    size = sizes["internal"] if shares else max(sizes["dma"], sizes["weights"] + sizes["internal"])
    LEDGER.learn(_key(context.code, shares), size)
    if not shares:
        LEDGER.learn(_key(context.code, True), sizes["internal"])
    return size
