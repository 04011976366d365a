"""Images as calibration samples: resized, scaled and laid out as a model's input wants them. Needs Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn_converters.calibration_source import Preprocess
from ort_rknn_converters.errors import CalibrationError
from ort_rknn_converters.util.own_files import open_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IMAGE_SUFFIXES", "read_image"]

_MOST_PIXELS = 48_000_000  # 400 MB while it is converted: a small file can say that it has any size

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_image(file: Path, how: Preprocess, dims: tuple[int, ...]) -> NDArray[Any]:
    """One image as a sample of a model's input.

    Args:
        file: The image.
        how: What is done with it.
        dims: The input's shape, rank 4 (or 3, without a batch).

    Returns:
        float32, of rank 3: the input's without the batch.

    Raises:
        CalibrationError: Pillow is missing, or the input is no image.
        OSError: The file is no image.
    """
    try:
        from PIL import Image
    except ImportError:
        raise CalibrationError(f"{file}: reading images needs Pillow (pip install pillow)") from None
    inner = dims[1:] if len(dims) == 4 else dims
    layout = how.layout or ("nchw" if len(inner) == 3 and inner[0] in (1, 3) else "nhwc")
    if len(inner) != 3:
        raise CalibrationError(f"{file}: an image cannot be an input of shape {list(dims)}")
    if how.layout is None and not {inner[0], inner[2]} & {1, 3}:
        raise CalibrationError(
            f"{file}: an image has 1 or 3 channels, and the input of shape {list(dims)} has {inner[0]} (nchw) or"
            f" {inner[2]} (nhwc). Give arrays of its shape instead (.npy, .npz)"
        )
    channels, height, width = inner if layout == "nchw" else (inner[2], *inner[:2])
    if channels not in (1, 3):
        raise CalibrationError(
            f"{file}: an image has 1 or 3 channels, the input of shape {list(dims)} has {channels} as {layout}"
        )
    with open_regular(file) as stream, Image.open(stream) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise CalibrationError(
                f"{file} has {image.width} x {image.height} pixels, and at most {_MOST_PIXELS:,} are read. Make it"
                " smaller"
            )
        resized = image.convert("L" if channels == 1 else "RGB").resize(how.size or (width, height))
        pixels = np.asarray(resized, np.float32).reshape(resized.height, resized.width, channels)
    if how.order == "bgr":
        pixels = pixels[:, :, ::-1]
    scaled = how.of_pixels(pixels, str(file))
    return np.ascontiguousarray(scaled.transpose(2, 0, 1) if layout == "nchw" else scaled)
