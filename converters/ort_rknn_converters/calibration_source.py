"""Forms of two options, checked without reading any data: source of the calibration data, preprocessing of images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from ort_rknn_converters.errors import CalibrationError
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Array", "Preprocess", "Source", "calibration_source"]

Array = np.ndarray[Any, np.dtype[Any]]  # as NDArray, whose module is a long import
Source = str | tuple[Mapping[str, Array], ...]
"""A path, or samples: input name -> array."""

_WIDEST = 1 << 14  # of an image, in pixels; a guess: inputs of models have up to 4096
_FORM = "e.g. 224x224,mean=123.7:116.3:103.5,std=58.4:57.1:57.4,rgb,nchw"


@frozen
class Preprocess:
    """``(pixel - mean) / std`` of 0 to 255, in a size, an order of channels and a layout.

    What is said of mean and standard deviation holds for arrays, too, as with rknn-toolkit2; size and order are only of
    images.

    Attributes:
        size: Width and height; ``None``: those of the model's input.
        mean: One number, or one a channel; ``None``: 0.
        std: The same; ``None``: 255 for images, so that pixels are 0 to 1 (the commonest habit), and 1 for arrays.
        order: ``rgb`` or ``bgr``.
        layout: ``nchw`` or ``nhwc``; ``None``: by where the model's input has 1 or 3 channels.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
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
                    if not numbers or not all(map(isfinite, numbers)) or (name == "std" and 0 in numbers):
                        raise ValueError
                    found[name] = numbers
                else:
                    width, height = (int(number) for number in part.split("x"))
                    if not (0 < width <= _WIDEST and 0 < height <= _WIDEST):
                        raise ValueError
                    found["size"] = (width, height)
            except ValueError:
                raise CalibrationError(f"preprocess has no part {part!r}; it is of the form {_FORM}") from None
        return cls(**found)

    def of_pixels(self, pixels: Array, what: str) -> Array:
        """Pixels, channels last, as the model takes them; float32.

        Raises:
            CalibrationError: Mean or standard deviation are of another number of channels than ``what``.
        """
        return self._scaled(pixels, pixels.ndim - 1, self.std or (255.0,), what)

    def of_array(self, array: Array, what: str) -> Array:
        """An array with the mean and the standard deviation that were given, if any were; else as it is.

        Its channels are along the axis that the layout says: the second of four, first of three, or the last.

        Raises:
            CalibrationError: As :meth:`of_pixels`.
        """
        if self.mean is None and self.std is None:
            return array
        first = array.ndim - 3
        axis = array.ndim - 1
        if first >= 0 and (self.layout == "nchw" or (self.layout is None and not self._only(array.shape[axis]))):
            axis = first
        return self._scaled(array, axis, self.std or (1.0,), what)

    def _only(self, channels: int) -> bool:
        """Whether so many channels fit what was given, and that is more than one number for all."""
        counts = {len(numbers) for numbers in (self.mean, self.std) if numbers} - {1}
        return counts == {channels}

    def _scaled(self, array: Array, axis: int, std: tuple[float, ...], what: str) -> Array:
        channels = array.shape[axis]
        shape = [1] * array.ndim
        scales = []
        for name, numbers in (("mean", self.mean or (0.0,)), ("std", std)):
            if len(numbers) not in (1, channels):
                raise CalibrationError(
                    f"{what}: preprocess has {len(numbers)} numbers of {name}, and there are {channels} channels."
                    " Give one for all, or one for each"
                )
            shape[axis] = len(numbers)
            scales.append(np.array(numbers).reshape(shape))
        kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
        result: Array = ((array - scales[0]) / scales[1]).astype(kind)
        return result


def calibration_source(source: Any) -> Source:
    """Returns a source in one of its two forms: path or samples. No file is read.

    Raises:
        CalibrationError: It is none.
    """
    if isinstance(source, (str, os.PathLike)):
        return str(os.fspath(source))
    if isinstance(source, np.ndarray):
        return ({"": source},)
    if isinstance(source, Mapping):
        source = (source,)
    if isinstance(source, Sequence) and all(isinstance(one, (Mapping, np.ndarray)) for one in source):
        return tuple(
            {"": one} if isinstance(one, np.ndarray) else {str(name): np.asarray(value) for name, value in one.items()}
            for one in source
        )
    raise CalibrationError(
        "calibration data are a path, a list of {input name: array}, or one such mapping with a leading sample axis, "
        f"not {type(source).__name__}"
    )
