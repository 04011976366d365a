"""Text, speech and attention models in the shapes of well-known ones, random weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.model_parts import DAMPING, Net

# What exporters add to masked attention scores; -inf and -3.4e38 are not fp16 numbers.
_MASKED = -1e4


def bert_mini(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """BERT-mini: 4 layers of width 256, 4 heads, 128 int64 ids; layer norms by turns in parts and as an op."""
    length, width, heads, words = 128, 256, 4, 30522
    net = Net("bert_mini", opset=17, seed=seed)
    ids = net.input("input_ids", [batch, length], TensorProto.INT64)
    mask = net.input("attention_mask", [batch, length], TensorProto.INT64)
    types = net.input("token_type_ids", [batch, length], TensorProto.INT64)
    x = net.op("Gather", _table(net, words, width), ids, axis=0)
    x = net.op("Add", x, net.op("Gather", _table(net, 2, width), types, axis=0))
    x = net.op("Add", x, net.const(0.1 * net.rng.standard_normal((1, length, width)), "positions", np.float32))
    x = net.layer_norm(x, width, decomposed=True)
    bias = net.op("Unsqueeze", net.op("Unsqueeze", mask, net.ints(1)), net.ints(2))
    bias = net.op("Sub", net.float(1.0), net.op("Cast", bias, to=TensorProto.FLOAT))
    bias = net.op("Mul", bias, net.float(_MASKED))
    for layer in range(4):
        with net.scope(f"encoder.{layer}"):
            parts = layer % 2 == 0
            x = net.op("Add", x, net.attention(x, batch, length, width, heads, bias))
            x = net.layer_norm(x, width, decomposed=parts)
            x = net.op("Add", x, net.mlp(x, width, 4 * width))
            x = net.layer_norm(x, width, decomposed=parts)
    first = net.op("Gather", x, net.const(0, "first", np.int64), axis=1)
    net.output(x, "last_hidden_state", [batch, length, width])
    net.output(net.op("Tanh", net.linear(first, width, width)), "pooler_output", [batch, width])
    return net.model()


def text_encoder(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """A CLIP-like text tower: int64 ids, causal mask, the vector at the largest id; 4 layers of width 256."""
    length, width, heads, words = 77, 256, 4, 49408
    net = Net("text_encoder", opset=14, seed=seed)
    ids = net.input("input_ids", [batch, length], TensorProto.INT64)
    x = net.op("Gather", _table(net, words, width), ids, axis=0)
    x = net.op("Add", x, net.const(0.1 * net.rng.standard_normal((1, length, width)), "positions", np.float32))
    causal = np.triu(np.full((length, length), _MASKED, np.float32), 1)[None, None]
    mask = net.const(causal, "causal")
    for layer in range(4):
        with net.scope(f"resblocks.{layer}"):
            attended = net.attention(net.layer_norm(x, width, decomposed=True), batch, length, width, heads, mask)
            x = net.op("Add", x, attended)
            hidden = net.linear(net.layer_norm(x, width, decomposed=True), width, 4 * width)
            quick = net.op("Mul", hidden, net.op("Sigmoid", net.op("Mul", hidden, net.float(1.702))))
            x = net.op("Add", x, net.linear(quick, 4 * width, width, gain=DAMPING))
    x = net.layer_norm(x, width, decomposed=True)
    last = net.op("ArgMax", net.op("Cast", ids, to=TensorProto.INT32), axis=1, keepdims=0)
    flat = net.op("Reshape", x, net.ints(batch * length, width))
    rows = net.const(length * np.arange(batch), "rows", np.int64)
    picked = net.op("Gather", flat, net.op("Add", last, rows), axis=0)
    net.output(net.linear(picked, width, 128, bias=False), "text_embedding", [batch, 128])
    return net.model()


def whisper_encoder(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Whisper-tiny's encoder: two 1-D convolutions over 3000 frames, 4 layers of width 384, 6 heads."""
    width = 384
    net = Net("whisper_encoder", opset=17, seed=seed)
    x = net.input("mel", [batch, 80, 3000])
    x = net.gelu(net.conv(x, 80, width, (3,), 1))
    x = net.gelu(net.conv(x, width, width, (3,), 2))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    x = net.op("Add", x, net.const(0.1 * net.rng.standard_normal((1500, width)), "positions", np.float32))
    for layer in range(4):
        with net.scope(f"blocks.{layer}"):
            x = net.pre_norm_block(x, batch, 1500, width, 6)
    net.output(net.layer_norm(x, width), "hidden", [batch, 1500, width])
    return net.model()


def sam_like(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Segment-anything-like image encoder: windows of 8x8 in six dimensions, relative positions, one global layer."""
    side, window, width, heads = 32, 8, 192, 3
    net = Net("sam_like", opset=17, seed=seed)
    x = net.input("images", [batch, 3, side * 16, side * 16])
    x = net.op("Transpose", net.conv(x, 3, width, 16, 16, 0, gain=1.0), perm=[0, 2, 3, 1])
    x = net.op("Add", x, net.const(0.1 * net.rng.standard_normal((1, side, side, width)), "positions", np.float32))
    count = side // window
    for layer in range(4):
        with net.scope(f"blocks.{layer}"):
            y = net.layer_norm(x, width)
            if layer < 3:
                y = net.op("Reshape", y, net.ints(batch, count, window, count, window, width))
                y = net.op("Transpose", y, perm=[0, 1, 3, 2, 4, 5])
                y = net.op("Reshape", y, net.ints(batch * count * count, window * window, width))
                y = _relative_attention(net, y, batch * count * count, window, width, heads)
                y = net.op("Reshape", y, net.ints(batch, count, count, window, window, width))
                y = net.op("Transpose", y, perm=[0, 1, 3, 2, 4, 5])
            else:
                y = net.op("Reshape", y, net.ints(batch, side * side, width))
                y = _relative_attention(net, y, batch, side, width, heads)
            y = net.op("Reshape", y, net.ints(batch, side, side, width))
            x = net.op("Add", x, y)
            x = net.op("Add", x, net.mlp(net.layer_norm(x, width), width, 4 * width))
    x = net.op("Transpose", x, perm=[0, 3, 1, 2])
    net.output(net.conv(x, width, 64, gain=1.0), "image_embedding", [batch, 64, side, side])
    return net.model()


def _relative_attention(net: Net, x: str, batch: int, side: int, width: int, heads: int) -> str:
    """Attention over side x side places, plus what the query says about the distance in height and in width."""
    length, head = side * side, width // heads
    q, k, v = (net.heads(net.linear(x, width, width), batch, length, heads, head) for _ in range(3))
    scores = net.op("MatMul", net.op("Mul", q, net.float(head**-0.5)), net.op("Transpose", k, perm=[0, 1, 3, 2]))
    places = net.op("Reshape", q, net.ints(batch * heads, side, side, head))
    tall = net.const(0.1 * net.rng.standard_normal((1, side, head, side)), "rel_h", np.float32)
    wide = net.const(0.1 * net.rng.standard_normal((1, side, head, side)), "rel_w", np.float32)
    by_row = net.op("MatMul", places, tall)
    by_column = net.op("MatMul", net.op("Transpose", places, perm=[0, 2, 1, 3]), wide)
    by_column = net.op("Transpose", by_column, perm=[0, 2, 1, 3])
    scores = net.op("Reshape", scores, net.ints(batch * heads, length, side, side))
    scores = net.op("Add", scores, net.op("Reshape", by_row, net.ints(batch * heads, length, side, 1)))
    scores = net.op("Add", scores, net.op("Reshape", by_column, net.ints(batch * heads, length, 1, side)))
    weights = net.op("Softmax", net.op("Reshape", scores, net.ints(batch, heads, length, length)), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", weights, v), perm=[0, 2, 1, 3])
    return net.linear(net.op("Reshape", mixed, net.ints(batch, length, width)), width, width, gain=DAMPING)


def _table(net: Net, rows: int, width: int) -> str:
    return net.const(0.3 * net.rng.standard_normal((rows, width)), "embedding", np.float32)
