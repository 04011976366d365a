from __future__ import annotations

from tests.helpers.op_rule import floats, reason

IMAGE = ("float", [1, 4, 8, 8])
VOLUME = ("float", [1, 4, 8, 8, 8])


def test_ordinary_convolutions_are_taken_in_one_to_three_dimensions() -> None:
    assert reason("Conv", [IMAGE, floats(6, 4, 3, 3)], [("float", [1, 6, 6, 6])]) is None
    assert reason("Conv", [("float", [1, 4, 9]), floats(6, 4, 3)], [("float", [1, 6, 7])]) is None
    assert reason("Conv", [VOLUME, floats(6, 4, 3, 3, 3)], [("float", [1, 6, 6, 6, 6])]) is None


def test_a_grouped_volume_convolution_aborts_the_compiler() -> None:
    said = reason("Conv", [VOLUME, floats(4, 2, 3, 3, 3)], [("float", [1, 4, 6, 6, 6])], group=2)
    assert said == "grouped Conv3d aborts the compiler"


def test_a_dilated_volume_convolution_is_converted_wrongly() -> None:
    said = reason("Conv", [VOLUME, floats(4, 4, 3, 3, 3)], [("float", [1, 4, 4, 4, 4])], dilations=[2, 2, 2])
    assert said == "dilated Conv3d is converted wrongly"


def test_dilation_and_groups_are_fine_in_two_dimensions() -> None:
    assert reason("Conv", [IMAGE, floats(4, 2, 3, 3)], [("float", [1, 4, 4, 4])], group=2, dilations=[2, 2]) is None


def test_transposed_convolution_in_two_dimensions_only() -> None:
    assert reason("ConvTranspose", [IMAGE, floats(4, 2, 2, 2)], [("float", [1, 2, 9, 9])]) is None
    said = reason("ConvTranspose", [VOLUME, floats(4, 2, 2, 2, 2)], [("float", [1, 2, 9, 9, 9])])
    assert said == "ConvTranspose3d aborts the compiler"


def test_transposed_convolution_with_auto_pad_is_refused() -> None:
    said = reason("ConvTranspose", [IMAGE, floats(4, 2, 2, 2)], [("float", [1, 2, 8, 8])], auto_pad="SAME_UPPER")
    assert said is not None
    assert "auto_pad" in said


def test_weights_computed_at_run_time_crash_in_one_dimension() -> None:
    line, weights = ("float", [1, 4, 9]), ("float", [6, 4, 3])
    said = reason("Conv", [line, weights, ("float", [6])], [("float", [1, 6, 7])])
    assert said == "Conv1d with weights computed at run time crashes the compiler"
    assert reason("Conv", [IMAGE, ("float", [6, 4, 3, 3])], [("float", [1, 6, 6, 6])]) is None
