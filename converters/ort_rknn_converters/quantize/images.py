"""Images as calibration samples: resized, scaled and laid out as a model's input wants them. Needs Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_rknn_converters.errors import CalibrationError
from ort_rknn_converters.util.frozen import frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IMAGE_SUFFIXES", "Preprocess", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

_FORM = "e.g. 224x224,mean=123.7:116.3:103.5,std=58.4:57.1:57.4,rgb,nchw"


@frozen
class Preprocess:
    """``(pixel - mean) / std`` of 0 to 255, in a size, an order of channels and a layout.

    Attributes:
        size: Width and height; ``None``: those of the model's input.
        mean: One number, or one a channel. Default: 0.
        std: The same. Default: 255, so that pixels are 0 to 1: the commonest habit.
        order: ``rgb`` or ``bgr``.
        layout: ``nchw`` or ``nhwc``; ``None``: by where the model's input has 1 or 3 channels.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    order: str = "rgb"
    layout: str | None = None

    @classmethod
    def parse(cls, text: str) -> Preprocess:
        """Read ``WxH,mean=a:b:c,std=a:b:c,rgb|bgr,nchw|nhwc``; each part may be left out.

        Raises:
            CalibrationError: It is not of that form.
        """
        found: dict[str, Any] = {}
        for part in filter(None, (word.strip().lower() for word in text.split(","))):
            name, equals, value = part.partition("=")
            try:
                if part in ("rgb", "bgr"):
                    found["order"] = part
                elif part in ("nchw", "nhwc"):
                    found["layout"] = part
                elif equals and name in ("mean", "std"):
                    numbers = tuple(float(number) for number in value.split(":"))
                    if len(numbers) not in (1, 3) or (name == "std" and 0 in numbers):
                        raise ValueError
                    found[name] = numbers
                else:
                    width, height = (int(number) for number in part.split("x"))
                    if width < 1 or height < 1:
                        raise ValueError
                    found["size"] = (width, height)
            except ValueError:
                raise CalibrationError(f"preprocess has no part {part!r}; it is of the form {_FORM}") from None
        return cls(**found)


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
    channels, height, width = inner if layout == "nchw" else (inner[2], *inner[:2])
    if channels not in (1, 3):
        raise CalibrationError(f"{file}: an image has 1 or 3 channels, the input of shape {list(dims)} has {channels}")
    with Image.open(file) as image:
        resized = image.convert("L" if channels == 1 else "RGB").resize(how.size or (width, height))
        pixels = np.asarray(resized, np.float32).reshape(resized.height, resized.width, channels)
    if how.order == "bgr":
        pixels = pixels[:, :, ::-1]
    scaled = ((pixels - np.array(how.mean)) / np.array(how.std)).astype(np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1) if layout == "nchw" else scaled)
