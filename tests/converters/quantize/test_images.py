from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ort_rknn_converters.calibration_source import Preprocess
from ort_rknn_converters.errors import CalibrationError
from ort_rknn_converters.quantize.calibration import Calibration, InputSpec
from ort_rknn_converters.quantize.images import read_image

NCHW = (1, 3, 4, 5)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 255, 51
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_pixels_are_0_to_1_in_the_inputs_own_size_and_layout(picture: Path) -> None:
    image = read_image(picture, Preprocess(), NCHW)
    assert (image.shape, image.dtype) == ((3, 4, 5), np.float32)
    np.testing.assert_allclose(image[:, 2, 3], [1, 0, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(read_image(picture, Preprocess(), (1, 4, 5, 3)), image.transpose(1, 2, 0))


def test_a_specification_is_followed(picture: Path) -> None:
    how = Preprocess.parse("2x3, mean=255:0:1, std=2:1:5, BGR, nhwc")
    image = read_image(picture, how, (1, 3, 2, 3))
    assert image.shape == (3, 2, 3)
    np.testing.assert_allclose(image[0, 0], [(51 - 255) / 2, 0, (255 - 1) / 5])


def test_grey_models_get_grey(picture: Path) -> None:
    assert read_image(picture, Preprocess(), (1, 1, 8, 8)).shape == (1, 8, 8)


def test_a_folder_of_images_is_a_calibration(picture: Path) -> None:
    samples = Calibration(picture.parent).samples([InputSpec("x", np.dtype(np.float32), NCHW)])
    assert samples[0]["x"].shape == NCHW


def test_an_image_of_another_size_than_the_input_is_said(picture: Path) -> None:
    calibration = Calibration(picture.parent, "9x9")
    with pytest.raises(CalibrationError, match=r"x has shape \[3, 9, 9\]. Expected"):
        calibration.samples([InputSpec("x", np.dtype(np.float32), NCHW)])


@pytest.mark.parametrize("dims", [(1, 10), (1, 2, 8, 8)])
def test_inputs_that_are_no_images(picture: Path, dims: tuple[int, ...]) -> None:
    with pytest.raises(CalibrationError, match="an image"):
        read_image(picture, Preprocess(), dims)


def test_mean_and_deviation_are_applied_once(picture: Path) -> None:
    how = "mean=10:20:30,std=2:4:8"
    (sample,) = Calibration(picture.parent, how).samples([InputSpec("x", np.dtype(np.float32), NCHW)])
    np.testing.assert_array_equal(sample["x"][0], read_image(picture, Preprocess.parse(how), NCHW))


def test_two_channels_are_told_in_both_layouts(picture: Path) -> None:
    with pytest.raises(CalibrationError, match=r"shape \[1, 2, 16, 32\] has 2 \(nchw\) or 32 \(nhwc\).*arrays"):
        read_image(picture, Preprocess(), (1, 2, 16, 32))
    with pytest.raises(CalibrationError, match=r"has 2 as nchw"):
        read_image(picture, Preprocess.parse("nchw"), (1, 2, 16, 32))


@pytest.mark.parametrize(
    ("text", "dims", "words"),
    [
        ("mean=1:2:3", (1, 1, 8, 8), "3 numbers of mean, and there are 1 channels"),
        ("mean=1:2", NCHW, "2 numbers of mean, and there are 3 channels"),
        ("std=1:2:3:4", NCHW, "4 numbers of std, and there are 3 channels"),
    ],
)
def test_numbers_of_other_channels(picture: Path, text: str, dims: tuple[int, ...], words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        read_image(picture, Preprocess.parse(text), dims)


@pytest.mark.parametrize("text", ["224", "0x3", "mean=a", "mean=", "std=0", "gray", "224x224x3"])
def test_nonsense_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(CalibrationError, match=r"e\.g\. 224x224,mean="):
        Preprocess.parse(text)
