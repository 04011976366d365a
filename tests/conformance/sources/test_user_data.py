"""The user's data: what is taken, how it is split into samples, and what the refusals say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ort_rknn_conformance.case import CaseError, Feed
from ort_rknn_conformance.sources.user_data import Input, load_data

IMAGE = Input("image", "tensor(float)", (1, 3, 4, 4))
IDS = Input("ids", "tensor(int64)", ("batch", 7))


def _save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def _feeds(path: str | Path, inputs: Sequence[Input], *, limit: int | None = None) -> tuple[Feed, ...]:
    return load_data(path, inputs, limit=limit).feeds


@pytest.mark.parametrize(
    ("shape", "samples"),
    [((1, 3, 4, 4), 1), ((5, 1, 3, 4, 4), 5), ((5, 3, 4, 4), 5)],
    ids=["one sample", "leading sample axis", "batch of the model is 1"],
)
def test_splits_into_samples(tmp_path: Path, shape: tuple[int, ...], samples: int) -> None:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    feeds = _feeds(_save(tmp_path / "d.npz", image=data), [IMAGE])
    assert [feed["image"].shape for feed in feeds] == [(1, 3, 4, 4)] * samples
    np.testing.assert_array_equal(np.concatenate([feed["image"].ravel() for feed in feeds]), data.ravel())


def test_free_dimensions_take_any_size(tmp_path: Path) -> None:
    (feed,) = _feeds(_save(tmp_path / "d.npz", ids=np.zeros((9, 7), np.int64)), [IDS])
    assert feed["ids"].shape == (9, 7)


def test_npy_for_one_input_and_folder_in_name_order(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        np.save(tmp_path / f"{number}.npy", np.full((1, 3, 4, 4), number, np.float32))
    (tmp_path / "readme.txt").write_text("not data")
    feeds = _feeds(tmp_path, [IMAGE])
    assert [float(feed["image"][0, 0, 0, 0]) for feed in feeds] == [0, 1, 2]
    assert len(_feeds(tmp_path, [IMAGE], limit=2)) == 2


def test_float64_is_taken_for_float32(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 4, 4)))
    (feed,) = _feeds(tmp_path / "x.npy", [IMAGE])
    assert feed["image"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": np.zeros((1, 3, 4, 4), np.float32)}, "missing image and unknown picture"),
        ({"image": np.zeros((1, 3, 4, 5), np.float32)}, r"image has shape \[1, 3, 4, 5\]"),
        ({"image": np.zeros((1, 3, 4, 4), np.complex64)}, "image has dtype complex64"),
    ],
    ids=["names", "shape", "dtype"],
)
def test_wrong_data_lists_what_is_expected(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = _save(tmp_path / "d.npz", **arrays)
    with pytest.raises(CaseError, match=rf"{message}.*expected image: float32 \[1, 3, 4, 4\]"):
        _feeds(path, [IMAGE])


def test_other_refusals(tmp_path: Path) -> None:
    both = [IMAGE, IDS]
    with pytest.raises(CaseError, match="no such file"):
        _feeds(tmp_path / "none.npz", both)
    with pytest.raises(CaseError, match=r"no \.npz, \.npy, \.png"):
        _feeds(tmp_path, both)
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    with pytest.raises(CaseError, match="not readable"):
        _feeds(tmp_path / "bad.npz", both)
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(CaseError, match="not readable"):
        _feeds(tmp_path / "empty.npy", [IMAGE])
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 4, 4)))
    with pytest.raises(CaseError, match=r"2 inputs: use \.npz"):
        _feeds(tmp_path / "x.npy", both)
    arrays = {"image": np.zeros((4, 3, 4, 4), np.float32), "ids": np.zeros((2, 1, 7), np.int64)}
    with pytest.raises(CaseError, match="image has 4, ids has 2"):
        _feeds(_save(tmp_path / "d.npz", **arrays), both)
    with pytest.raises(CaseError, match="do not fit"):
        _feeds(_save(tmp_path / "d.npz", x=np.array([300])), [Input("x", "tensor(int8)", (1,))])
    with pytest.raises(CaseError, match="which data files cannot hold"):
        _feeds(_save(tmp_path / "d.npz", x=np.array([300])), [Input("x", "seq(tensor(float))", ())])
