"""Ops that the board's runtime can compute on its CPU inside a compiled segment: the vendor's documented list.

The compiler places an op on the CPU also when the runtime does not have it; such a segment converts, simulates right
and dies on the board. The list is that of the vendor's documentation 2.3.2 (chapter 4); no board was asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from ort_rknn_converters.targets import Target

__all__ = ["CPU_OPS", "placement_trouble"]

_LISTED = (
    "Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Cos DepthToSpace Div "
    "Equal Erf Exp Expand Flatten Floor GRU Gather GatherElements Greater GreaterOrEqual InstanceNormalization "
    "LayerNormalization Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max MaxPool MaxRoiPool MaxUnpool Min "
    "Mod Mul Not OneHot Pad PassThrough Pow ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Reorg Reshape Resize "
    "ReverseSequence RoiAlign Round ScatterND Sigmoid Sin Slice Softmax SoftmaxMask SpaceToDepth Split Sqrt Squeeze "
    "Sub Tanh Tile TopK Transpose Upsample Where exGelu exGlu exHardSwish exLRN exLayerNorm "
    "exMeanVarianceNormalization exMish exNorm exProposal exRMSNorm exSoftmax13 exSwish exSwooshL exSwooshR exWindow"
)
# The runtime's own helpers, seen in the layer tables of ordinary CNNs.
_INTERNAL = "InputOperator OutputOperator DataConvert exDataConvert exConvTransposePad"
_SMALL = "Concat DataConvert Div Exp Gather ReduceL2 ReduceMax Reshape ScatterND Softmax exLayerNorm"

CPU_OPS: frozenset[str] = frozenset(f"{_LISTED} {_INTERNAL}".split())
_SMALL_OPS = frozenset(f"{_SMALL} {_INTERNAL}".split())
_ALWAYS = frozenset({"InputOperator", "OutputOperator"})
_OPS: Mapping[str, frozenset[str]] = {"all": CPU_OPS, "few": _SMALL_OPS, "none": frozenset()}
"""Those that a SoC has, by :attr:`ort_rknn_converters.targets.Target.runtime_cpu_ops`."""


def placement_trouble(op_type: str, place: str, target: Target) -> str | None:
    """Reason why the board could not run a layer where the compiler put it.

    Args:
        op_type: The layer's op as the compiler's table or the ``.rknn`` file names it (``exSoftmax13``, ``Reshape``).
        place: Its target there: ``NPU``, ``CPU`` or ``GPU``.
        target: The SoC.

    Returns:
        ``None`` when it can, else the reason in words.
    """
    if place == "NPU" or op_type in _ALWAYS:
        return None
    known = _OPS[target.runtime_cpu_ops]
    return None if op_type in known else f"{op_type}: put on the board's {place}, which is not documented to have it"
