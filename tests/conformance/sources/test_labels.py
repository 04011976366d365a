"""Images as data, and labels: what a user of a classifier has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ort_rknn_conformance.case import CaseError
from ort_rknn_conformance.sources.labels import accuracy, read_labels
from ort_rknn_conformance.sources.user_data import Input, load_data

SQUARE = Input("image", "tensor(float)", (1, 3, 4, 4))


def _picture(path: Path, colour: tuple[int, int, int] = (255, 0, 51), size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_an_image(tmp_path: Path) -> None:
    file = _picture(tmp_path / "a.png")
    data = load_data(file, [SQUARE])
    (feed,) = data.feeds
    assert data.files == (file,)
    assert feed["image"].shape == (1, 3, 4, 4)
    assert feed["image"].dtype == np.float32
    np.testing.assert_allclose(feed["image"][0, :, 0, 0], [1, 0, 0.2], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "preprocess", "form"),
    [
        ((1, 4, 4, 3), "", (1, 4, 4, 3)),
        (("n", 3, "h", "w"), "6x5", (1, 3, 5, 6)),
        (("n", "h", "w", 3), "6x5", (1, 5, 6, 3)),
        (("n", "c", "h", "w"), "6x5,nchw", (1, 3, 5, 6)),
        ((3, 4, 4), "", (3, 4, 4)),
        ((1, 1, 4, 4), "", (1, 1, 4, 4)),
    ],
)
def test_forms(tmp_path: Path, shape: tuple[int | str, ...], preprocess: str, form: tuple[int, ...]) -> None:
    file = _picture(tmp_path / "a.png")
    (feed,) = load_data(file, [Input("x", "tensor(float)", shape)], preprocess=preprocess).feeds
    assert feed["x"].shape == form


def test_preprocessing(tmp_path: Path) -> None:
    file = _picture(tmp_path / "a.png")
    (feed,) = load_data(file, [SQUARE], preprocess="mean=55:0:1,std=100:1:10,bgr").feeds
    np.testing.assert_allclose(feed["image"][0, :, 0, 0], [(51 - 55) / 100, 0, (255 - 1) / 10], atol=1e-5)


def test_refusals(tmp_path: Path) -> None:
    file = _picture(tmp_path / "a.png")
    with pytest.raises(CaseError, match="preprocess has no part 'nonsense'"):
        load_data(file, [SQUARE], preprocess="nonsense")
    with pytest.raises(CaseError, match="say --preprocess WIDTHxHEIGHT"):
        load_data(file, [Input("x", "tensor(float)", (1, 3, "h", "w"))])
    with pytest.raises(CaseError, match="the model has 2"):
        load_data(file, [SQUARE, SQUARE])
    with pytest.raises(CaseError, match="cannot be an input of shape"):
        load_data(file, [Input("x", "tensor(float)", (1, 4))])
    with pytest.raises(CaseError, match="expected image"):
        load_data(file, [SQUARE], preprocess="7x7")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(CaseError, match="not readable as an image"):
        load_data(tmp_path / "b.png", [SQUARE])


def test_folders_are_classes(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png", "dog/2.jpg"):
        _picture(tmp_path / name)
    files = load_data(tmp_path, [SQUARE]).files
    assert read_labels("folders", files) == (0, 1, 1)
    for name in ("7/1.png", "12/1.png"):
        _picture(tmp_path / "numbers" / name)
    assert read_labels("folders", load_data(tmp_path / "numbers", [SQUARE]).files) == (12, 7)


def test_folders_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    for name in ("photos/1.png", "photos/2.png", "other/3.png"):
        _picture(tmp_path / name)
    files = load_data(tmp_path / "photos", [SQUARE]).files
    with pytest.raises(CaseError, match=r"1\.png lies in no folder of a class"):
        read_labels("folders", files, tmp_path / "photos")
    with pytest.raises(CaseError, match="lies in no folder of a class"):
        read_labels("folders", files[:1], files[0])
    for name in ("train/cat/1.png", "test/dog/2.png"):
        _picture(tmp_path / "mixed" / name)
    files = load_data(tmp_path / "mixed", [SQUARE]).files
    with pytest.raises(CaseError, match="the classes lie in several folders"):
        read_labels("folders", files, tmp_path / "mixed")


def test_label_files(tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    np.save(tmp_path / "l.npy", np.array([3, 4, 5]))
    assert read_labels(str(tmp_path / "l.npy"), files) == (3, 4)
    for content in ("3\n4\n", "b.png 4\na.png 3\n", "x/b.png,4\nx/a.png,3\n"):
        (tmp_path / "l.txt").write_text(content)
        assert read_labels(str(tmp_path / "l.txt"), files) == (3, 4)
    for content, said in (
        ("3\n", "1 labels for 2 samples"),
        ("b.png 4\n", "no label for a.png"),
        ("cat\n", "a number"),
    ):
        (tmp_path / "l.txt").write_text(content)
        with pytest.raises(CaseError, match=said):
            read_labels(str(tmp_path / "l.txt"), files)
    with pytest.raises(CaseError, match="cannot be read"):
        read_labels(str(tmp_path / "none.txt"), files)
    np.save(tmp_path / "f.npy", np.array([0.5]))
    with pytest.raises(CaseError, match="whole numbers"):
        read_labels(str(tmp_path / "f.npy"), files)


def test_accuracy() -> None:
    rows = [np.eye(10, dtype=np.float32)[[number]] for number in range(4)]
    off = [rows[0], rows[1], rows[2] + 2 * rows[0], rows[3] * np.float32("nan")]
    extra = np.zeros((2, 3, 4), np.float32)
    found = accuracy([[extra, row] for row in rows], [[extra, row] for row in off], (0, 1, 2, 3))
    assert found == {"cpu_top1": 1.0, "top1": 0.5, "cpu_top5": 1.0, "top5": 0.75}
    assert set(accuracy([[rows[0][:, :3]]], [[rows[0][:, :3]]], (0,))) == {"cpu_top1", "top1"}
    with pytest.raises(CaseError, match="10 classes"):
        accuracy([[rows[0]]], [[rows[0]]], (10,))
    with pytest.raises(CaseError, match="one row of classes"):
        accuracy([[extra]], [[extra]], (0,))
