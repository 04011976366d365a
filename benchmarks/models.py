"""The shaped models: real topologies and sizes, random seeded weights, made in seconds instead of downloaded.

``python -m benchmarks.models resnet50 -o resnet50.onnx`` writes one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import onnx

from benchmarks.models_mixed import constant_if, lstm_crnn, nms_detector
from benchmarks.models_text import bert_mini, sam_like, text_encoder, whisper_encoder
from benchmarks.models_vision import mobilenetv2, resnet50, unet, vit_tiny, yolov5s, yolov8n

MODELS: dict[str, Callable[..., onnx.ModelProto]] = {
    build.__name__: build
    for build in (
        resnet50,
        mobilenetv2,
        yolov8n,
        vit_tiny,
        bert_mini,
        yolov5s,
        unet,
        whisper_encoder,
        sam_like,
        lstm_crnn,
        nms_detector,
        text_encoder,
        constant_if,
    )
}

# Dimensions to pin where a model leaves them open.
DIMS: dict[str, dict[str, int]] = {"lstm_crnn": {"width": 320}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write one of the shaped models.")
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    onnx.save(MODELS[arguments.name](arguments.batch, arguments.seed), arguments.output)


if __name__ == "__main__":
    main()
