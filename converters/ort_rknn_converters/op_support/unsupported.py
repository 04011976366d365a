"""Ops that never go to the NPU, and why, in words."""

from __future__ import annotations

__all__ = ["REFUSED"]

_CONTROL_FLOW = "control flow"
_RECURRENT = "recurrent"
_NO_LOWERING = "the compiler has no lowering"
_UNDOCUMENTED = "no code for it in the compiler or the board's runtime"
_MOVING = "the result's shape depends on values"
_RANDOM = "random"
_QUANTIZED = "integer-quantized op"
_CONSTANT = "nothing to compute"
_HOST_TYPES = "sequences, optionals and strings"

_GROUPS: dict[str, str] = {
    _CONTROL_FLOW: "If Loop Scan SequenceMap",
    _RECURRENT: "GRU LSTM RNN",
    _NO_LOWERING: (
        "Acos Acosh AffineGrid Asin Asinh Atan Atanh Attention BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor "
        "CastLike Ceil Celu CenterCropPad Col2Im Cosh DFT Det Einsum EyeLike Gelu GroupNormalization GlobalLpPool "
        "IsInf IsNaN LpPool Mean MeanVarianceNormalization Min Mish NegativeLogLikelihoodLoss Or RMSNormalization "
        "ReduceL1 ReduceLogSum ReduceProd ReduceSumSquare RotaryEmbedding STFT Scatter ScatterElements Selu Shrink "
        "Sign Sinh SoftmaxCrossEntropyLoss Softsign Swish Tan TensorScatter TfIdfVectorizer Trilu Xor BlackmanWindow "
        "HammingWindow HannWindow MelWeightMatrix"
    ),
    _UNDOCUMENTED: "DeformConv GatherND GridSample Hardmax LRN ReduceLogSumExp",
    _MOVING: "Compress NonMaxSuppression NonZero Range Unique",
    _RANDOM: "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    _QUANTIZED: "ConvInteger DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul",
    _CONSTANT: "Constant ConstantOfShape Shape Size",
    _HOST_TYPES: (
        "ConcatFromSequence ImageDecoder Optional OptionalGetElement OptionalHasElement RegexFullMatch SequenceAt "
        "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SplitToSequence StringConcat "
        "StringNormalizer StringSplit"
    ),
}

REFUSED: dict[str, str] = {op: reason for reason, ops in _GROUPS.items() for op in ops.split()}
