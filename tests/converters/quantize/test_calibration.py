from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ort_rknn_converters.errors import CalibrationError
from ort_rknn_converters.quantize.calibration import Calibration, InputSpec

FLOAT = np.dtype(np.float32)
X = InputSpec("x", FLOAT, (1, 2, 3))
IDS = InputSpec("ids", np.dtype(np.int64), (1, 4))


def stack(count: int) -> np.ndarray:
    return np.arange(count * 6, dtype=np.float32).reshape(count, 1, 2, 3)


class TestArrays:
    def test_a_list_of_mappings_is_one_sample_each(self) -> None:
        samples = Calibration([{"x": array} for array in stack(3)]).samples([X])
        np.testing.assert_array_equal([sample["x"] for sample in samples], stack(3))

    @pytest.mark.parametrize("shape", [(3, 1, 2, 3), (3, 2, 3)])
    def test_a_leading_axis_counts_samples_with_and_without_the_batch(self, shape: tuple[int, ...]) -> None:
        samples = Calibration({"x": stack(3).reshape(shape)}).samples([X])
        np.testing.assert_array_equal([sample["x"] for sample in samples], stack(3))

    def test_a_sample_may_lack_the_batch_of_one(self) -> None:
        (sample,) = Calibration([{"x": stack(1)[0, 0]}]).samples([X])
        assert sample["x"].shape == (1, 2, 3)

    def test_a_larger_batch_is_filled_from_the_samples(self) -> None:
        spec = InputSpec("x", FLOAT, (2, 2, 3))
        samples = Calibration({"x": stack(6).reshape(6, 2, 3)}).samples([spec])
        assert len(samples) == 3
        np.testing.assert_array_equal(samples[1]["x"], stack(6).reshape(6, 2, 3)[2:4])

    def test_one_array_serves_a_model_of_one_input(self) -> None:
        assert len(Calibration(stack(4)).samples([X])) == 4

    def test_samples_get_the_inputs_dtype(self) -> None:
        data = {"x": stack(2).astype(np.float64), "ids": np.ones((2, 1, 4), np.int32)}
        (first, _) = Calibration(data).samples([X, IDS])
        assert (first["x"].dtype, first["ids"].dtype) == (np.float32, np.int64)

    def test_the_limit_spreads_over_all(self) -> None:
        samples = Calibration({"x": stack(10)}, limit=2).samples([X])
        np.testing.assert_array_equal([sample["x"] for sample in samples], stack(10)[[0, 5]])


class TestFiles:
    def test_a_folder_of_npy(self, tmp_path: Path) -> None:
        for number, array in enumerate(stack(3)):
            np.save(tmp_path / f"{number}.npy", array)
        samples = Calibration(tmp_path).samples([X])
        np.testing.assert_array_equal([sample["x"] for sample in samples], stack(3))

    def test_one_npz_of_named_stacks(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "all.npz", x=stack(3), ids=np.zeros((3, 1, 4), np.int64))
        samples = Calibration(tmp_path / "all.npz").samples([X, IDS])
        assert [sorted(sample) for sample in samples] == [["ids", "x"]] * 3

    def test_a_folder_of_npz_for_several_inputs(self, tmp_path: Path) -> None:
        for number in range(2):
            np.savez(tmp_path / f"{number}.npz", x=stack(1)[0] + number, ids=np.zeros((1, 4), np.int64))
        assert [float(sample["x"][0, 0, 0]) for sample in Calibration(tmp_path).samples([X, IDS])] == [0, 1]

    def test_a_list_as_rknn_toolkit2_has_them(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for number in range(2):
            np.save(tmp_path / "data" / f"x{number}.npy", stack(1)[0] + number)
            np.save(tmp_path / "data" / f"ids{number}.npy", np.full((1, 4), number))
        (tmp_path / "one.txt").write_text("data/x1.npy\n\ndata/x0.npy\n")
        samples = Calibration(tmp_path / "one.txt").samples([X])
        assert [float(sample["x"][0, 0, 0]) for sample in samples] == [1, 0]
        (tmp_path / "two.txt").write_text("data/x0.npy data/ids0.npy\ndata/x1.npy data/ids1.npy\n")
        samples = Calibration(tmp_path / "two.txt").samples([X, IDS])
        assert [int(sample["ids"][0, 0]) for sample in samples] == [0, 1]
        assert Calibration(tmp_path / "one.txt").digest() != Calibration(tmp_path / "two.txt").digest()
        assert len(Calibration(tmp_path / "one.txt", limit=1).samples([X])) == 1


class TestErrors:
    def test_other_names_list_the_expected(self) -> None:
        with pytest.raises(CalibrationError, match=r"has y\. Expected for each sample: x float32 \[1, 2, 3\]"):
            Calibration({"y": stack(1)}).samples([X])

    def test_a_wrong_shape_lists_the_expected(self) -> None:
        with pytest.raises(CalibrationError, match=r"x has shape \[5, 3\]\. Expected .*x float32 \[1, 2, 3\]"):
            Calibration({"x": np.zeros((5, 3))}).samples([X])

    @pytest.mark.parametrize("data", [[], {"x": np.zeros((0, 1, 2, 3))}])
    def test_empty_data(self, data: Any) -> None:
        with pytest.raises(CalibrationError, match="are empty"):
            Calibration(data).samples([X])

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CalibrationError, match=r"is empty: it has no file of \.npy"):
            Calibration(tmp_path).samples([X])

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CalibrationError, match="does not exist"):
            Calibration(tmp_path / "nowhere").digest()

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(b"no numpy file")
        with pytest.raises(CalibrationError, match=r"a\.npy is not a whole file of numpy's save"):
            Calibration(tmp_path).samples([X])

    def test_pickles_are_not_opened(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([object()]), allow_pickle=True)
        with pytest.raises(CalibrationError, match="or has no numbers"):
            Calibration(tmp_path).samples([X])

    @pytest.mark.parametrize("damage", [b"text", b"PK\x03\x04 cut off"])
    def test_a_damaged_archive(self, tmp_path: Path, damage: bytes) -> None:
        (tmp_path / "a.npz").write_bytes(damage)
        with pytest.raises(CalibrationError, match=r"a\.npz is not a whole file of numpy's save"):
            Calibration(tmp_path / "a.npz").samples([X])

    @pytest.mark.parametrize("line", ["a b/my x.npy", '"a b/my x.npy"', "'a b/my x.npy'"])
    def test_a_path_with_blanks_in_a_list(self, tmp_path: Path, line: str) -> None:
        (tmp_path / "a b").mkdir()
        np.save(tmp_path / "a b" / "my x.npy", stack(1)[0])
        np.save(tmp_path / "a b" / "ids.npy", np.zeros((1, 4), np.int64))
        (tmp_path / "list.txt").write_text(f"{line}\n")
        assert len(Calibration(tmp_path / "list.txt").samples([X])) == 1
        if line[0] in "\"'":
            (tmp_path / "list.txt").write_text(f"{line} 'a b/ids.npy'\n")
            assert len(Calibration(tmp_path / "list.txt").samples([X, IDS])) == 1

    def test_a_path_with_blanks_in_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a b").mkdir()
        np.save(tmp_path / "a b" / "my x.npy", stack(1)[0])
        assert len(Calibration(tmp_path / "a b").samples([X])) == 1

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_pixels_for_floats_need_a_word(self, dtype: Any) -> None:
        pixels = np.full((2, *X.dims), 51, dtype)
        with pytest.raises(CalibrationError, match=r"x has uint\d+ values, and the input takes float32.*std=255"):
            Calibration({"x": pixels}).samples([X])
        (first, _) = Calibration({"x": pixels}, "mean=0,std=255").samples([X])
        np.testing.assert_allclose(first["x"], 0.2, rtol=1e-6)
        (first, _) = Calibration({"x": pixels}, "mean=0,std=1").samples([X])
        np.testing.assert_array_equal(first["x"], 51)

    def test_fractions_for_whole_numbers(self) -> None:
        with pytest.raises(CalibrationError, match="ids has fractions, and the input takes int64"):
            Calibration({"x": stack(1), "ids": np.full((1, 1, 4), 0.5)}).samples([X, IDS])
        assert (
            Calibration({"x": stack(1), "ids": np.full((1, 1, 4), 2.0)}).samples([X, IDS])[0]["ids"].dtype == np.int64
        )

    def test_mean_and_deviation_hold_for_arrays_as_with_rknn_toolkit2(self, tmp_path: Path) -> None:
        image = InputSpec("x", np.dtype(np.float32), (1, 3, 2, 5))
        array = np.ones((1, 3, 2, 5), np.float32)
        np.save(tmp_path / "a.npy", array)
        for source in (tmp_path, {"x": array}, [{"x": array}], array):
            (sample,) = Calibration(source, "mean=0:1:2,std=1:2:4").samples([image])
            np.testing.assert_array_equal(sample["x"][0, :, 0, 0], [1, 0, -0.25])
        last = InputSpec("x", np.dtype(np.float32), (1, 2, 5, 3))
        (sample,) = Calibration(array.transpose(0, 2, 3, 1), "mean=0:1:2").samples([last])
        np.testing.assert_array_equal(sample["x"][0, 0, 0], [1, 0, -1])
        with pytest.raises(CalibrationError, match="2 numbers of mean, and there are 3 channels"):
            Calibration(array, "mean=0:1").samples([image])
        (sample,) = Calibration(array, "5x2,bgr").samples([image])  # of images only
        np.testing.assert_array_equal(sample["x"], array)

    def test_lists(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("\n")
        with pytest.raises(CalibrationError, match="is empty: each line is the file of a sample"):
            Calibration(tmp_path / "a.txt").samples([X])
        (tmp_path / "a.txt").write_text("\nnone.npy")
        with pytest.raises(CalibrationError, match=r"a\.txt, line 2: none\.npy does not exist"):
            Calibration(tmp_path / "a.txt").samples([X])
        (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
        with pytest.raises(CalibrationError, match="cannot be read as a list of files"):
            Calibration(tmp_path / "a.txt").samples([X])

    def test_npy_files_cannot_serve_two_inputs(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", stack(1)[0])
        with pytest.raises(CalibrationError, match=r"2 inputs, so a sample is an \.npz file"):
            Calibration(tmp_path).samples([X, IDS])

    def test_different_numbers_of_samples(self) -> None:
        with pytest.raises(CalibrationError, match="different numbers of samples: 3 of x, 2 of ids"):
            Calibration({"x": stack(3), "ids": np.zeros((2, 1, 4))}).samples([X, IDS])

    def test_values_that_are_no_numbers(self) -> None:
        with pytest.raises(CalibrationError, match="no finite numbers"):
            Calibration({"x": stack(1) * np.nan}).samples([X])

    def test_something_else(self) -> None:
        with pytest.raises(CalibrationError, match="not int"):
            Calibration(3)


class TestDigest:
    def test_it_is_of_the_content(self, tmp_path: Path) -> None:
        for folder, more in (("a", 0), ("b", 0), ("c", 1)):
            (tmp_path / folder).mkdir()
            np.save(tmp_path / folder / "x.npy", stack(1) + more)
        one, same, other = (Calibration(tmp_path / folder).digest() for folder in "abc")
        assert one == same
        assert one != other

    def test_arrays_differ_by_name_shape_and_value(self) -> None:
        kinds = [{"x": stack(1)}, {"y": stack(1)}, {"x": stack(1).reshape(6)}, {"x": stack(1) + 1}]
        assert len({Calibration(kind).digest() for kind in kinds}) == 4
