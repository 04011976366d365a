"""Image models in the shapes of well-known ones, random weights."""

from __future__ import annotations

import numpy as np
import onnx

from benchmarks.model_parts import DAMPING, Net


def resnet50(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """ResNet-50, 224x224, 1000 classes: 25.5 M weights, 8.2 GFLOP."""
    net = Net("resnet50", opset=13, seed=seed)
    x = net.input("images", [batch, 3, 224, 224])
    x = net.op("Relu", net.conv(x, 3, 64, 7, 2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c_in = 64
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
        for block in range(blocks):
            stride = 2 if block == 0 and stage else 1
            with net.scope(f"layer{stage + 1}.{block}"):
                y = net.op("Relu", net.conv(x, c_in, width))
                y = net.op("Relu", net.conv(y, width, width, 3, stride))
                y = net.conv(y, width, 4 * width, gain=DAMPING)
                if block == 0:
                    x = net.conv(x, c_in, 4 * width, 1, stride, gain=1.0)
                x = net.op("Relu", net.op("Add", y, x))
                c_in = 4 * width
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    w = net.weight(1000, 2048, fan_in=2048)
    x = net.op("Gemm", x, w, net.const(np.zeros(1000), "bias", np.float32), transB=1)
    net.output(x, "logits", [batch, 1000])
    return net.model()


def resnet18(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """ResNet-18, 224x224, 1000 classes: 11.7 M weights, 3.6 GFLOP."""
    net = Net("resnet18", opset=13, seed=seed)
    x = net.input("images", [batch, 3, 224, 224])
    x = net.op("Relu", net.conv(x, 3, 64, 7, 2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c_in = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if block == 0 and stage else 1
            y = net.op("Relu", net.conv(x, c_in, width, 3, stride))
            y = net.conv(y, width, width, 3, gain=DAMPING)
            if c_in != width:
                x = net.conv(x, c_in, width, 1, stride, gain=1.0)
            x = net.op("Relu", net.op("Add", y, x))
            c_in = width
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    net.output(net.linear(x, 512, 1000), "logits", [batch, 1000])
    return net.model()


def mobilenetv2(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """MobileNetV2, 224x224, 1000 classes, softmax at the end: 3.5 M weights, 0.6 GFLOP."""
    net = Net("mobilenetv2", opset=12, seed=seed)
    relu6 = (net.float(0.0), net.float(6.0))
    x = net.input("images", [batch, 3, 224, 224])
    x = net.op("Clip", net.conv(x, 3, 32, 3, 2), *relu6)
    c_in = 32
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for stage, (expand, c_out, repeats, first_stride) in enumerate(plan):
        for block in range(repeats):
            stride = first_stride if block == 0 else 1
            with net.scope(f"features.{stage}.{block}"):
                hidden = c_in * expand
                y = x if expand == 1 else net.op("Clip", net.conv(x, c_in, hidden), *relu6)
                y = net.op("Clip", net.conv(y, hidden, hidden, 3, stride, groups=hidden), *relu6)
                y = net.conv(y, hidden, c_out, gain=1.0)
                x = net.op("Add", x, y) if stride == 1 and c_in == c_out else y
                c_in = c_out
    x = net.op("Clip", net.conv(x, c_in, 1280), *relu6)
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    x = net.op(
        "Gemm", x, net.weight(1000, 1280, fan_in=1280, gain=1.0), net.const(np.zeros(1000), "b", np.float32), transB=1
    )
    net.output(net.op("Softmax", x, axis=-1), "probabilities", [batch, 1000])
    return net.model()


def yolov8n(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """YOLOv8n, 640x640, 80 classes, the whole head with DFL and decoded boxes: 3.2 M weights, 8.7 GFLOP."""
    net = Net("yolov8n", opset=13, seed=seed)
    x = net.input("images", [batch, 3, 640, 640])
    x = _conv_silu(net, x, 3, 16, 3, 2)
    x = _conv_silu(net, x, 16, 32, 3, 2)
    x = _c2f(net, x, 32, 32, 1, True)
    x = _conv_silu(net, x, 32, 64, 3, 2)
    p3 = _c2f(net, x, 64, 64, 2, True)
    x = _conv_silu(net, p3, 64, 128, 3, 2)
    p4 = _c2f(net, x, 128, 128, 2, True)
    x = _conv_silu(net, p4, 128, 256, 3, 2)
    x = _c2f(net, x, 256, 256, 1, True)
    p5 = _sppf(net, x, 256)

    t4 = _c2f(net, net.op("Concat", _upsample(net, p5), p4, axis=1), 384, 128, 1, False)
    o3 = _c2f(net, net.op("Concat", _upsample(net, t4), p3, axis=1), 192, 64, 1, False)
    o4 = _c2f(net, net.op("Concat", _conv_silu(net, o3, 64, 64, 3, 2), t4, axis=1), 192, 128, 1, False)
    o5 = _c2f(net, net.op("Concat", _conv_silu(net, o4, 128, 128, 3, 2), p5, axis=1), 384, 256, 1, False)

    levels = []
    for value, c_in in ((o3, 64), (o4, 128), (o5, 256)):
        box = _conv_silu(net, _conv_silu(net, value, c_in, 64, 3), 64, 64, 3)
        score = _conv_silu(net, _conv_silu(net, value, c_in, 80, 3), 80, 80, 3)
        both = net.op("Concat", net.conv(box, 64, 64, gain=1.0), net.conv(score, 80, 80, gain=1.0), axis=1)
        levels.append(net.op("Reshape", both, net.ints(batch, 144, -1)))
    box, score = net.many("Split", net.op("Concat", *levels, axis=2), net.ints(64, 80), outputs=2, axis=1)

    dfl = net.op("Transpose", net.op("Reshape", box, net.ints(batch, 4, 16, 8400)), perm=[0, 2, 1, 3])
    dfl = net.op("Softmax", dfl, axis=1)
    bins = net.const(np.arange(16).reshape(1, 16, 1, 1), "bins", np.float32)
    distance = net.op("Reshape", net.op("Conv", dfl, bins, kernel_shape=[1, 1]), net.ints(batch, 4, 8400))
    centres, strides = _anchors()
    near, far = net.many("Split", distance, net.ints(2, 2), outputs=2, axis=1)
    low = net.op("Sub", net.const(centres, "anchors"), near)
    high = net.op("Add", net.const(centres, "anchors"), far)
    centre = net.op("Div", net.op("Add", low, high), net.float(2.0))
    boxes = net.op("Mul", net.op("Concat", centre, net.op("Sub", high, low), axis=1), net.const(strides, "strides"))
    net.output(net.op("Concat", boxes, net.op("Sigmoid", score), axis=1), "output0", [batch, 84, 8400])
    return net.model()


def yolov5s(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """YOLOv5s, 640x640: anchors decoded in five dimensions, boxes in pixels and scores in one Concat."""
    net = Net("yolov5s", opset=12, seed=seed)
    x = net.input("images", [batch, 3, 640, 640])
    x = _conv_silu(net, x, 3, 32, 6, 2, pad=2)
    x = _c3(net, _conv_silu(net, x, 32, 64, 3, 2), 64, 64, 1, True)
    p3 = _c3(net, _conv_silu(net, x, 64, 128, 3, 2), 128, 128, 2, True)
    p4 = _c3(net, _conv_silu(net, p3, 128, 256, 3, 2), 256, 256, 3, True)
    x = _c3(net, _conv_silu(net, p4, 256, 512, 3, 2), 512, 512, 1, True)
    p5 = _sppf(net, x, 512)
    t5 = _conv_silu(net, p5, 512, 256)
    t4 = _c3(net, net.op("Concat", _upsample(net, t5), p4, axis=1), 512, 256, 1, False)
    s4 = _conv_silu(net, t4, 256, 128)
    o3 = _c3(net, net.op("Concat", _upsample(net, s4), p3, axis=1), 256, 128, 1, False)
    o4 = _c3(net, net.op("Concat", _conv_silu(net, o3, 128, 128, 3, 2), s4, axis=1), 256, 256, 1, False)
    o5 = _c3(net, net.op("Concat", _conv_silu(net, o4, 256, 256, 3, 2), t5, axis=1), 512, 512, 1, False)

    levels = []
    for value, c_in, stride in ((o3, 128, 8), (o4, 256, 16), (o5, 512, 32)):
        side = 640 // stride
        y = net.op("Reshape", net.conv(value, c_in, 255, gain=1.0), net.ints(batch, 3, 85, side, side))
        y = net.op("Sigmoid", net.op("Transpose", y, perm=[0, 1, 3, 4, 2]))
        xy, wh, rest = net.many("Split", y, outputs=3, axis=4, split=[2, 2, 81])
        rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
        grid = (np.stack([columns, rows], -1)[None, None] - 0.5).astype(np.float32)
        xy = net.op("Mul", net.op("Add", net.op("Mul", xy, net.float(2.0)), net.const(grid, "grid")), net.float(stride))
        sizes = stride * np.array([[1.25, 1.6], [2.0, 3.75], [4.1, 2.9]], np.float32).reshape(1, 3, 1, 1, 2)
        wh = net.op("Mul", net.op("Pow", net.op("Mul", wh, net.float(2.0)), net.float(2.0)), net.const(sizes, "sizes"))
        y = net.op("Concat", xy, wh, rest, axis=4)
        levels.append(net.op("Reshape", y, net.ints(batch, 3 * side * side, 85)))
    net.output(net.op("Concat", *levels, axis=1), "output0", [batch, 25200, 85])
    return net.model()


def unet(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """A U-Net of four levels with transposed convolutions, 256x256, two classes: 7.8 M weights."""
    net = Net("unet", opset=11, seed=seed)
    x = net.input("images", [batch, 3, 256, 256])
    widths = [32, 64, 128, 256]
    skips = []
    c_in = 3
    for width in widths:
        x = _double(net, x, c_in, width)
        skips.append(x)
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        c_in = width
    x = _double(net, x, 256, 512)
    for width, skip in zip(reversed(widths), reversed(skips), strict=True):
        w = net.weight(2 * width, width, 2, 2, fan_in=2 * width)
        x = net.op("ConvTranspose", x, w, kernel_shape=[2, 2], strides=[2, 2])
        x = _double(net, net.op("Concat", skip, x, axis=1), 2 * width, width)
    net.output(net.op("Sigmoid", net.conv(x, 32, 2, gain=1.0)), "mask", [batch, 2, 256, 256])
    return net.model()


def vit_tiny(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """ViT-Tiny/16, 224x224: 12 layers of width 192, 3 heads; 5.7 M weights, 2.5 GFLOP."""
    net = Net("vit_tiny", opset=17, seed=seed)
    x = net.input("images", [batch, 3, 224, 224])
    x = net.op("Reshape", net.conv(x, 3, 192, 16, 16, 0, gain=1.0), net.ints(batch, 192, 196))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    token = net.const(0.1 * net.rng.standard_normal((batch, 1, 192)), "token", np.float32)
    x = net.op("Concat", token, x, axis=1)
    x = net.op("Add", x, net.const(0.1 * net.rng.standard_normal((1, 197, 192)), "positions", np.float32))
    for layer in range(12):
        with net.scope(f"blocks.{layer}"):
            x = net.pre_norm_block(x, batch, 197, 192, 3)
    x = net.op("Gather", net.layer_norm(x, 192), net.const(0, "first", np.int64), axis=1)
    net.output(net.linear(x, 192, 1000), "logits", [batch, 1000])
    return net.model()


def _conv_silu(
    net: Net, x: str, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, pad: int | None = None
) -> str:
    return net.silu(net.conv(x, c_in, c_out, kernel, stride, pad))


def _c2f(net: Net, x: str, c_in: int, c_out: int, repeats: int, shortcut: bool) -> str:
    half = c_out // 2
    parts = net.many("Split", _conv_silu(net, x, c_in, c_out), net.ints(half, half), outputs=2, axis=1)
    for _ in range(repeats):
        y = _conv_silu(net, _conv_silu(net, parts[-1], half, half, 3), half, half, 3)
        parts.append(net.op("Add", parts[-1], y) if shortcut else y)
    return _conv_silu(net, net.op("Concat", *parts, axis=1), (2 + repeats) * half, c_out)


def _c3(net: Net, x: str, c_in: int, c_out: int, repeats: int, shortcut: bool) -> str:
    half = c_out // 2
    y = _conv_silu(net, x, c_in, half)
    for _ in range(repeats):
        z = _conv_silu(net, _conv_silu(net, y, half, half), half, half, 3)
        y = net.op("Add", y, z) if shortcut else z
    return _conv_silu(net, net.op("Concat", y, _conv_silu(net, x, c_in, half), axis=1), c_out, c_out)


def _sppf(net: Net, x: str, width: int) -> str:
    pooled = [_conv_silu(net, x, width, width // 2)]
    for _ in range(3):
        pooled.append(net.op("MaxPool", pooled[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]))
    return _conv_silu(net, net.op("Concat", *pooled, axis=1), 2 * width, width)


def _upsample(net: Net, x: str) -> str:
    scales = net.const([1, 1, 2, 2], "scales", np.float32)
    roi = "" if net.opset >= 13 else net.const([], "roi", np.float32)
    return net.op(
        "Resize", x, roi, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


def _double(net: Net, x: str, c_in: int, c_out: int) -> str:
    return net.op("Relu", net.conv(net.op("Relu", net.conv(x, c_in, c_out, 3)), c_out, c_out, 3))


def _anchors() -> tuple[np.ndarray, np.ndarray]:
    centres, strides = [], []
    for stride in (8, 16, 32):
        side = 640 // stride
        rows, columns = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5, indexing="ij")
        centres.append(np.stack([columns.ravel(), rows.ravel()]))
        strides.append(np.full((1, side * side), stride))
    return np.concatenate(centres, 1)[None].astype(np.float32), np.concatenate(strides, 1).astype(np.float32)
