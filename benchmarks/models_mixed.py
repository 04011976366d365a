"""Models that no NPU takes whole: recurrent cells, selection by score, control flow; random weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.model_parts import Net


def lstm_crnn(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """An OCR recogniser: convolutions over a line 48 high and of any width, two bidirectional LSTMs, 97 letters."""
    net = Net("lstm_crnn", opset=14, seed=seed)
    x = net.input("x", [batch, 3, 48, "width"])
    for c_in, c_out, stride in ((3, 32, (2, 2)), (32, 64, (2, 1)), (64, 128, (2, 2)), (128, 256, (2, 1))):
        x = net.op("Relu", net.conv(x, c_in, c_out, (3, 3), stride))
    x = net.op("Relu", net.conv(x, 256, 256, (3, 1), 1, (0, 0)))
    x = net.op("Transpose", net.op("Squeeze", x, net.ints(2)), perm=[2, 0, 1])
    for _ in range(2):
        x = _bidirectional(net, x, 256, 128, batch)
    x = net.op("Transpose", x, perm=[1, 0, 2])
    net.output(net.op("Softmax", net.linear(x, 256, 97), axis=-1), "letters", [batch, "steps", 97])
    return net.model()


def nms_detector(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """A single-shot detector, 320x320, with NonMaxSuppression at the end and the chosen boxes gathered."""
    net = Net("nms_detector", opset=13, seed=seed)
    x = net.input("images", [batch, 3, 320, 320])
    c_in = 3
    for c_out in (16, 32, 64, 128, 128):
        x = net.op("Relu", net.conv(x, c_in, c_out, 3, 2))
        x = net.op("Relu", net.conv(x, c_out, c_out, 3))
        c_in = c_out
    places = 10 * 10 * 6
    boxes = net.op("Transpose", net.conv(x, 128, 24, 3, gain=0.1), perm=[0, 2, 3, 1])
    boxes = net.op("Sigmoid", net.op("Reshape", boxes, net.ints(batch, places, 4)))
    scores = net.op("Transpose", net.conv(x, 128, 6 * 21, 3, gain=1.0), perm=[0, 2, 3, 1])
    scores = net.op("Softmax", net.op("Reshape", scores, net.ints(batch, places, 21)), axis=-1)
    scores = net.op("Transpose", scores, perm=[0, 2, 1])
    limits = net.ints(20), net.float(0.5), net.float(0.05)
    chosen = net.op("NonMaxSuppression", boxes, scores, *limits)
    rows = net.op("Squeeze", net.op("Slice", chosen, net.ints(2), net.ints(3), net.ints(1)), net.ints(1))
    net.output(chosen, "selected", ["chosen", 3], TensorProto.INT64)
    net.output(net.op("Gather", boxes, rows, axis=1), "boxes", [batch, "chosen", 4])
    return net.model()


def constant_if(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """A small CNN whose middle stands in an ``If`` on a constant, as scripted exports leave them."""
    net = Net("constant_if", opset=13, seed=seed)
    x = net.input("images", [batch, 3, 96, 96])
    x = net.op("Relu", net.conv(x, 3, 32, 3, 2))
    branches = {}
    for name in ("then_branch", "else_branch"):
        w = numpy_helper.from_array(0.1 * net.rng.standard_normal((64, 32, 3, 3), dtype=np.float32), f"{name}/w")
        conv = helper.make_node("Conv", [x, w.name], [f"{name}/c"], name=f"{name}/conv", pads=[1, 1, 1, 1])
        kind = "Relu" if name == "then_branch" else "Sigmoid"
        act = helper.make_node(kind, [f"{name}/c"], [f"{name}/y"], name=f"{name}/act")
        result = helper.make_tensor_value_info(f"{name}/y", TensorProto.FLOAT, [batch, 64, 48, 48])
        branches[name] = helper.make_graph([conv, act], name, [], [result], [w])
    x = net.op("If", net.const(True, "training"), **branches)
    x = net.op("Relu", net.conv(x, 64, 128, 3, 2))
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    net.output(net.linear(x, 128, 10), "logits", [batch, 10])
    return net.model()


def _bidirectional(net: Net, x: str, c_in: int, hidden: int, batch: int) -> str:
    w = net.weight(2, 4 * hidden, c_in, fan_in=c_in, gain=1.0)
    r = net.weight(2, 4 * hidden, hidden, fan_in=hidden, gain=1.0)
    b = net.const(np.zeros((2, 8 * hidden)), "bias", np.float32)
    start = net.const(np.zeros((2, batch, hidden)), "start", np.float32)
    y, _, _ = net.many("LSTM", x, w, r, b, "", start, start, outputs=3, hidden_size=hidden, direction="bidirectional")
    y = net.op("Transpose", y, perm=[0, 2, 1, 3])
    return net.op("Reshape", y, net.ints(0, batch, 2 * hidden))
