"""The models of public board records in the form in which the vendor's model zoo measures them: heads not decoded.

A width and a depth multiplier make the families; the zoo's exports end in convolutions and, for classes, a Sigmoid.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto

from benchmarks.model_parts import Net

__all__ = ["ZOO"]

_CLASSES = 80


class _Cnn:
    """Blocks of detectors over one graph, with the activation of the family."""

    def __init__(self, net: Net, activation: str = "silu") -> None:
        self.net = net
        self.activation = activation

    def conv(self, x: str, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        pad = 2 if kernel == 6 else None
        y = self.net.conv(x, c_in, c_out, kernel, stride, pad, groups=groups)
        if self.activation == "silu":
            return self.net.silu(y)
        return self.net.op(self.activation, y)

    def c3(self, x: str, c_in: int, c_out: int, repeats: int, shortcut: bool = True) -> str:
        half = c_out // 2
        y = self.conv(x, c_in, half)
        for _ in range(repeats):
            z = self.conv(self.conv(y, half, half), half, half, 3)
            y = self.net.op("Add", y, z) if shortcut else z
        return self.conv(self.net.op("Concat", y, self.conv(x, c_in, half), axis=1), c_out, c_out)

    def c2f(
        self,
        x: str,
        c_in: int,
        c_out: int,
        repeats: int,
        shortcut: bool = True,
        nested: bool | None = None,
        share: int = 2,
    ) -> str:
        """YOLOv8's block; with ``nested`` given, YOLO11's (narrower inside; ``True``: a block of its own each time)."""
        half = c_out // share
        y = self.conv(x, c_in, 2 * half)
        parts = self.net.many("Split", y, self.net.ints(half, half), outputs=2, axis=1)
        for _ in range(repeats):
            if nested:
                y = self.c3k(parts[-1], half)
            else:
                middle = half if nested is None else half // 2
                y = self.conv(self.conv(parts[-1], half, middle, 3), middle, half, 3)
                y = self.net.op("Add", parts[-1], y) if shortcut else y
            parts.append(y)
        return self.conv(self.net.op("Concat", *parts, axis=1), (2 + repeats) * half, c_out)

    def c3k(self, x: str, width: int) -> str:
        half = width // 2
        y = self.conv(x, width, half)
        for _ in range(2):
            y = self.net.op("Add", y, self.conv(self.conv(y, half, half, 3), half, half, 3))
        return self.conv(self.net.op("Concat", y, self.conv(x, width, half), axis=1), width, width)

    def sppf(self, x: str, width: int, out: int | None = None, kernels: tuple[int, ...] = (5, 5, 5)) -> str:
        pooled = [self.conv(x, width, (out or width) // 2)]
        for kernel in kernels:
            pads = [kernel // 2] * 4
            pooled.append(self.net.op("MaxPool", pooled[-1], kernel_shape=[kernel] * 2, strides=[1, 1], pads=pads))
        joined = self.net.op("Concat", *pooled, axis=1)
        return self.conv(joined, (len(kernels) + 1) * ((out or width) // 2), out or width)

    def up(self, x: str) -> str:
        scales = self.net.const([1, 1, 2, 2], "scales", "float32")
        return self.net.op(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def join(self, *values: str) -> str:
        return self.net.op("Concat", *values, axis=1)


def _start(name: str, activation: str = "silu", size: int = 640) -> tuple[_Cnn, str]:
    net = Net(name, opset=13)
    return _Cnn(net, activation), net.input("images", [1, 3, size, size])


def _eight(number: float) -> int:
    return int(-(-number // 8) * 8)


def _head8(cnn: _Cnn, levels: list[tuple[str, int]], light: bool = False) -> onnx.ModelProto:
    """Boxes as 64 bins, classes through a Sigmoid and their sum: the zoo's heads of YOLOv8, 10 and 11."""
    net = cnn.net
    first = levels[0][1]
    box_width, class_width = max(16, first // 4, 64), max(first, min(_CLASSES, 100))
    for number, (value, width) in enumerate(levels):
        side = 80 >> number
        y = cnn.conv(cnn.conv(value, width, box_width, 3), box_width, box_width, 3)
        net.output(net.conv(y, box_width, 64), f"box{number}", [1, 64, side, side])
        if light:
            y = cnn.conv(cnn.conv(value, width, width, 3, groups=width), width, class_width)
            y = cnn.conv(cnn.conv(y, class_width, class_width, 3, groups=class_width), class_width, class_width)
        else:
            y = cnn.conv(cnn.conv(value, width, class_width, 3), class_width, class_width, 3)
        score = net.op("Sigmoid", net.conv(y, class_width, _CLASSES))
        net.output(score, f"score{number}", [1, _CLASSES, side, side])
        total = net.op("Clip", net.op("ReduceSum", score, net.ints(1), keepdims=1), net.float(0.0), net.float(1.0))
        net.output(total, f"sum{number}", [1, 1, side, side])
    return net.model()


def _yolov5(name: str, width: float, depth: float, activation: str = "silu") -> onnx.ModelProto:
    cnn, x = _start(name, activation)
    net = cnn.net
    c = [_eight(width * n) for n in (64, 128, 256, 512, 1024)]
    n = [max(round(depth * k), 1) for k in (3, 6, 9, 3)]
    x = cnn.conv(x, 3, c[0], 6, 2)
    x = cnn.c3(cnn.conv(x, c[0], c[1], 3, 2), c[1], c[1], n[0])
    p3 = cnn.c3(cnn.conv(x, c[1], c[2], 3, 2), c[2], c[2], n[1])
    p4 = cnn.c3(cnn.conv(p3, c[2], c[3], 3, 2), c[3], c[3], n[2])
    p5 = cnn.sppf(cnn.c3(cnn.conv(p4, c[3], c[4], 3, 2), c[4], c[4], n[3]), c[4])
    t5 = cnn.conv(p5, c[4], c[3])
    t4 = cnn.c3(cnn.join(cnn.up(t5), p4), 2 * c[3], c[3], n[0], False)
    s4 = cnn.conv(t4, c[3], c[2])
    o3 = cnn.c3(cnn.join(cnn.up(s4), p3), 2 * c[2], c[2], n[0], False)
    o4 = cnn.c3(cnn.join(cnn.conv(o3, c[2], c[2], 3, 2), s4), 2 * c[2], c[3], n[0], False)
    o5 = cnn.c3(cnn.join(cnn.conv(o4, c[3], c[3], 3, 2), t5), 2 * c[3], c[4], n[0], False)
    for number, (value, c_in) in enumerate(((o3, c[2]), (o4, c[3]), (o5, c[4]))):
        side = 80 >> number
        net.output(net.op("Sigmoid", net.conv(value, c_in, 255)), f"out{number}", [1, 255, side, side])
    return net.model()


def _yolov8(name: str, width: float, depth: float, most: int = 1024) -> onnx.ModelProto:
    cnn, x = _start(name)
    c = [_eight(width * min(n, most)) for n in (64, 128, 256, 512, 1024)]
    n = [max(round(depth * k), 1) for k in (3, 6, 6, 3)]
    x = cnn.conv(x, 3, c[0], 3, 2)
    x = cnn.c2f(cnn.conv(x, c[0], c[1], 3, 2), c[1], c[1], n[0])
    p3 = cnn.c2f(cnn.conv(x, c[1], c[2], 3, 2), c[2], c[2], n[1])
    p4 = cnn.c2f(cnn.conv(p3, c[2], c[3], 3, 2), c[3], c[3], n[2])
    p5 = cnn.sppf(cnn.c2f(cnn.conv(p4, c[3], c[4], 3, 2), c[4], c[4], n[3]), c[4])
    t4 = cnn.c2f(cnn.join(cnn.up(p5), p4), c[4] + c[3], c[3], n[0], False)
    o3 = cnn.c2f(cnn.join(cnn.up(t4), p3), c[3] + c[2], c[2], n[0], False)
    o4 = cnn.c2f(cnn.join(cnn.conv(o3, c[2], c[2], 3, 2), t4), c[2] + c[3], c[3], n[0], False)
    o5 = cnn.c2f(cnn.join(cnn.conv(o4, c[3], c[3], 3, 2), p5), c[3] + c[4], c[4], n[0], False)
    return _head8(cnn, [(o3, c[2]), (o4, c[3]), (o5, c[4])])


def _area_attention(cnn: _Cnn, x: str, width: int, side: int, repeats: int) -> str:
    """C2PSA: half of the channels through attention over all places."""
    net = cnn.net
    half = width // 2
    y = cnn.conv(x, width, width)
    kept, y = net.many("Split", y, net.ints(half, half), outputs=2, axis=1)
    heads = max(half // 64, 1)
    places = side * side
    for _ in range(repeats):
        qkv = net.op("Reshape", net.conv(y, half, 2 * half), net.ints(1, heads, 128, places))
        q, k, v = net.many("Split", qkv, net.ints(32, 32, 64), outputs=3, axis=2)
        scores = net.op("Mul", net.op("MatMul", net.op("Transpose", q, perm=[0, 1, 3, 2]), k), net.float(32**-0.5))
        weights = net.op("Transpose", net.op("Softmax", scores, axis=-1), perm=[0, 1, 3, 2])
        mixed = net.op("Reshape", net.op("MatMul", v, weights), net.ints(1, half, side, side))
        place = net.conv(net.op("Reshape", v, net.ints(1, half, side, side)), half, half, 3, groups=half)
        y = net.op("Add", y, net.conv(net.op("Add", mixed, place), half, half))
        y = net.op("Add", y, net.conv(cnn.conv(y, half, 2 * half), 2 * half, half))
    return cnn.conv(cnn.join(kept, y), width, width)


def _yolo11(name: str, width: float, depth: float, most: int, nested: bool) -> onnx.ModelProto:
    cnn, x = _start(name)
    c = [_eight(width * min(n, most)) for n in (64, 128, 256, 512, 1024)]
    n = max(round(depth * 2), 1)
    x = cnn.conv(x, 3, c[0], 3, 2)
    x = cnn.c2f(cnn.conv(x, c[0], c[1], 3, 2), c[1], c[2], n, nested=nested, share=4)
    p3 = cnn.c2f(cnn.conv(x, c[2], c[2], 3, 2), c[2], c[3], n, nested=nested, share=4)
    p4 = cnn.c2f(cnn.conv(p3, c[3], c[3], 3, 2), c[3], c[3], n, nested=True)
    x = cnn.c2f(cnn.conv(p4, c[3], c[4], 3, 2), c[4], c[4], n, nested=True)
    p5 = _area_attention(cnn, cnn.sppf(x, c[4]), c[4], 20, n)
    t4 = cnn.c2f(cnn.join(cnn.up(p5), p4), c[4] + c[3], c[3], n, nested=nested)
    o3 = cnn.c2f(cnn.join(cnn.up(t4), p3), 2 * c[3], c[2], n, nested=nested)
    o4 = cnn.c2f(cnn.join(cnn.conv(o3, c[2], c[2], 3, 2), t4), c[2] + c[3], c[3], n, nested=nested)
    o5 = cnn.c2f(cnn.join(cnn.conv(o4, c[3], c[3], 3, 2), p5), c[3] + c[4], c[4], n, nested=True)
    return _head8(cnn, [(o3, c[2]), (o4, c[3]), (o5, c[4])], light=True)


def _yolov6n() -> onnx.ModelProto:
    """RepVGG blocks, fused: 3x3 convolutions with Relu only."""
    cnn, x = _start("yolov6n", "Relu")
    net = cnn.net
    x = cnn.conv(x, 3, 16, 3, 2)
    kept = []
    c_in = 16
    for c_out, repeats in ((32, 2), (64, 4), (128, 6), (256, 2)):
        x = cnn.conv(x, c_in, c_out, 3, 2)
        for _ in range(repeats):
            x = cnn.conv(x, c_out, c_out, 3)
        kept.append(x)
        c_in = c_out
    _, p3, p4, p5 = kept
    p5 = cnn.sppf(p5, 256)

    def stack(value: str, first: int, width: int) -> str:
        for number in range(4):
            value = cnn.conv(value, first if number == 0 else width, width, 3)
        return value

    def up(value: str, width: int) -> str:
        w = net.weight(width, width, 2, 2, fan_in=width)
        return net.op("ConvTranspose", value, w, kernel_shape=[2, 2], strides=[2, 2])

    s5 = cnn.conv(p5, 256, 64)
    t4 = stack(cnn.join(up(s5, 64), p4), 192, 64)
    s4 = cnn.conv(t4, 64, 32)
    o3 = stack(cnn.join(up(s4, 32), p3), 96, 32)
    o4 = stack(cnn.join(cnn.conv(o3, 32, 32, 3, 2), s4), 64, 64)
    o5 = stack(cnn.join(cnn.conv(o4, 64, 64, 3, 2), s5), 128, 128)
    for number, (value, width) in enumerate(((o3, 32), (o4, 64), (o5, 128))):
        side = 80 >> number
        y = cnn.conv(value, width, width)
        net.output(net.conv(cnn.conv(y, width, width, 3), width, 4), f"box{number}", [1, 4, side, side])
        score = net.op("Sigmoid", net.conv(cnn.conv(y, width, width, 3), width, _CLASSES))
        net.output(score, f"score{number}", [1, _CLASSES, side, side])
    return net.model()


def _yolov7_tiny() -> onnx.ModelProto:
    cnn, x = _start("yolov7_tiny", "LeakyRelu")
    net = cnn.net

    def elan(value: str, c_in: int, half: int, c_out: int) -> str:
        first, second = cnn.conv(value, c_in, half), cnn.conv(value, c_in, half)
        third = cnn.conv(second, half, half, 3)
        return cnn.conv(cnn.join(cnn.conv(third, half, half, 3), third, second, first), 4 * half, c_out)

    def pool(value: str) -> str:
        return net.op("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])

    x = cnn.conv(cnn.conv(x, 3, 32, 3, 2), 32, 64, 3, 2)
    x = elan(x, 64, 32, 64)
    p3 = elan(pool(x), 64, 64, 128)
    p4 = elan(pool(p3), 128, 128, 256)
    p5 = elan(pool(p4), 256, 256, 512)
    p5 = cnn.sppf(p5, 512, 512, (5, 9, 13))
    p5 = cnn.conv(p5, 512, 256)
    t4 = elan(cnn.join(cnn.conv(p4, 256, 128), cnn.up(cnn.conv(p5, 256, 128))), 256, 64, 128)
    o3 = elan(cnn.join(cnn.conv(p3, 128, 64), cnn.up(cnn.conv(t4, 128, 64))), 128, 32, 64)
    o4 = elan(cnn.join(cnn.conv(o3, 64, 128, 3, 2), t4), 256, 64, 128)
    o5 = elan(cnn.join(cnn.conv(o4, 128, 256, 3, 2), p5), 512, 128, 256)
    for number, (value, width) in enumerate(((o3, 64), (o4, 128), (o5, 256))):
        side = 80 >> number
        y = net.op("Sigmoid", net.conv(cnn.conv(value, width, 2 * width, 3), 2 * width, 255))
        net.output(y, f"out{number}", [1, 255, side, side])
    return net.model()


def _yolox_s() -> onnx.ModelProto:
    cnn, x = _start("yolox_s")
    net = cnn.net
    x = cnn.conv(net.op("SpaceToDepth", x, blocksize=2), 12, 32, 3)
    x = cnn.c3(cnn.conv(x, 32, 64, 3, 2), 64, 64, 1)
    p3 = cnn.c3(cnn.conv(x, 64, 128, 3, 2), 128, 128, 3)
    p4 = cnn.c3(cnn.conv(p3, 128, 256, 3, 2), 256, 256, 3)
    p5 = cnn.c3(cnn.sppf(cnn.conv(p4, 256, 512, 3, 2), 512, 512, (5, 9, 13)), 512, 512, 1, False)
    t5 = cnn.conv(p5, 512, 256)
    t4 = cnn.c3(cnn.join(cnn.up(t5), p4), 512, 256, 1, False)
    s4 = cnn.conv(t4, 256, 128)
    o3 = cnn.c3(cnn.join(cnn.up(s4), p3), 256, 128, 1, False)
    o4 = cnn.c3(cnn.join(cnn.conv(o3, 128, 128, 3, 2), s4), 256, 256, 1, False)
    o5 = cnn.c3(cnn.join(cnn.conv(o4, 256, 256, 3, 2), t5), 512, 512, 1, False)
    for number, (value, width) in enumerate(((o3, 128), (o4, 256), (o5, 512))):
        side = 80 >> number
        y = cnn.conv(value, width, 128)
        boxes = cnn.conv(cnn.conv(y, 128, 128, 3), 128, 128, 3)
        scores = cnn.conv(cnn.conv(y, 128, 128, 3), 128, 128, 3)
        found = net.op("Sigmoid", net.conv(boxes, 128, 1))
        joined = cnn.join(net.conv(boxes, 128, 4), found, net.op("Sigmoid", net.conv(scores, 128, _CLASSES)))
        net.output(joined, f"out{number}", [1, 85, side, side])
    return net.model()


def _clip_image() -> onnx.ModelProto:
    """ViT-B/32: 50 places, 12 layers of width 768."""
    net = Net("clip_image", opset=17)
    x = net.input("images", [1, 3, 224, 224])
    x = net.op("Reshape", net.conv(x, 3, 768, 32, 32, 0), net.ints(1, 768, 49))
    x = net.op("Concat", net.weight(1, 1, 768, fan_in=1), net.op("Transpose", x, perm=[0, 2, 1]), axis=1)
    x = net.layer_norm(net.op("Add", x, net.weight(1, 50, 768, fan_in=1)), 768)
    for layer in range(12):
        with net.scope(f"blocks.{layer}"):
            x = net.pre_norm_block(x, 1, 50, 768, 12)
    first = net.op("Gather", net.layer_norm(x, 768), net.const(0, "first", "int64"), axis=1)
    net.output(net.linear(first, 768, 512, bias=False), "image_embeds", [1, 512])
    return net.model()


def _clip_text() -> onnx.ModelProto:
    """CLIP's text tower as the zoo exports it: 20 ids, 12 layers of width 512."""
    net = Net("clip_text", opset=17)
    ids = net.input("text", [1, 20], TensorProto.INT64)
    x = net.op("Gather", net.weight(49408, 512, fan_in=1), ids, axis=0)
    x = net.op("Add", x, net.weight(1, 20, 512, fan_in=1))
    mask = net.weight(1, 1, 20, 20, fan_in=1)
    for layer in range(12):
        with net.scope(f"blocks.{layer}"):
            x = net.pre_norm_block(x, 1, 20, 512, 8, mask)
    x = net.layer_norm(x, 512)
    last = net.op("Gather", x, net.const(19, "last", "int64"), axis=1)
    net.output(net.linear(last, 512, 512, bias=False), "text_embeds", [1, 512])
    return net.model()


ZOO = {
    "yolov5s": lambda: _yolov5("yolov5s", 0.5, 0.33),
    "yolov5s_relu": lambda: _yolov5("yolov5s_relu", 0.5, 0.33, "Relu"),
    "yolov5m": lambda: _yolov5("yolov5m", 0.75, 0.67),
    "yolov6n": _yolov6n,
    "yolov7_tiny": _yolov7_tiny,
    "yolov8n": lambda: _yolov8("yolov8n", 0.25, 0.33),
    "yolov8s": lambda: _yolov8("yolov8s", 0.5, 0.33),
    "yolov8m": lambda: _yolov8("yolov8m", 0.75, 0.67, 768),
    "yolo11n": lambda: _yolo11("yolo11n", 0.25, 0.5, 1024, False),
    "yolo11s": lambda: _yolo11("yolo11s", 0.5, 0.5, 1024, False),
    "yolo11m": lambda: _yolo11("yolo11m", 1.0, 0.5, 512, True),
    "yolox_s": _yolox_s,
    "clip_image": _clip_image,
    "clip_text": _clip_text,
}
"""Name -> builder, in the form of the vendor's model zoo."""
