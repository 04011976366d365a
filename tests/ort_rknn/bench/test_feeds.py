"""What a benchmark feeds: VA-14, VA-16, VA-22."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ort_rknn.bench.feeds import FeedError, needs, random_feed, read_feed, with_values

INPUTS = [
    SimpleNamespace(name="x", type="tensor(float)", shape=["N", 3]),
    SimpleNamespace(name="i", type="tensor(int64)", shape=[2]),
]
WANTED = needs(INPUTS)


def test_open_dimensions_are_said_or_one() -> None:
    assert [need.shape for need in WANTED] == [(1, 3), (2,)]
    assert needs(INPUTS, dims={"N": 5})[0].shape == (5, 3)
    assert needs(INPUTS, {"x": (7, 3)}, {"N": 5})[0].shape == (7, 3)


def test_random_feeds_are_the_same_every_time() -> None:
    feed = random_feed(WANTED)
    assert [(array.dtype.name, array.shape) for array in feed.values()] == [("float32", (1, 3)), ("int64", (2,))]
    assert np.array_equal(feed["x"], random_feed(WANTED)["x"])
    assert set(feed["i"]) <= {0, 1}


def test_pinned_values_are_fed() -> None:
    feed = with_values(random_feed(WANTED), {"i": "7", "not there": "1"})
    assert feed["i"].tolist() == [7, 7]
    assert feed["i"].dtype == np.int64
    assert feed["x"].shape == (1, 3)


def test_texts_cannot_be_made_up() -> None:
    with pytest.raises(FeedError, match=r"input 't' is a tensor\(string\)"):
        needs([SimpleNamespace(name="t", type="tensor(string)", shape=[1])])


def test_npz_and_npy(tmp_path: Path) -> None:
    feed = {"x": np.ones((4, 3), np.float32), "i": np.arange(2)}
    np.savez(tmp_path / "f.npz", **feed)
    np.save(tmp_path / "x.npy", np.asfortranarray(feed["x"]).astype(">f4"))
    read = read_feed(tmp_path / "f.npz", WANTED)
    assert all(np.array_equal(read[name], feed[name]) for name in feed)
    array = read_feed(tmp_path / "x.npy", WANTED[:1])["x"]
    assert (array.dtype.isnative, array.flags.c_contiguous, array.tolist()) == (True, True, feed["x"].tolist())


def test_va14_bin_holds_the_inputs_one_after_the_other(tmp_path: Path) -> None:
    x, i = np.float32([[1, 2, 3]]), np.int64([4, 5])
    (tmp_path / "f.bin").write_bytes(x.tobytes() + i.tobytes())
    read = read_feed(tmp_path / "f.bin", WANTED)
    assert (read["x"].tolist(), read["i"].tolist()) == (x.tolist(), i.tolist())
    (tmp_path / "f.bin").write_bytes(b"123")
    with pytest.raises(FeedError, match=r"f\.bin has 3 bytes, but x \(float32 1x3\), i \(int64 2\) takes 28"):
        read_feed(tmp_path / "f.bin", WANTED)


def test_what_does_not_fit_says_why(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 3)))
    np.save(tmp_path / "b.npy", np.ones((1, 4), np.float32))
    np.savez(tmp_path / "c.npz", x=np.ones((1, 3), np.float32))
    (tmp_path / "d.npz").write_bytes(b"no zip")
    (tmp_path / "e.npy").write_bytes(b"")
    for name, wanted, why in (
        ("a.npy", WANTED[:1], r"holds float64 1x3, but the model takes x \(float32 1x3\)"),
        ("b.npy", WANTED[:1], r"holds float32 1x4, but"),
        ("a.npy", WANTED, r"a \.npy holds one array, and the model has 2 inputs"),
        ("c.npz", WANTED, r"c\.npz holds x, but nothing for i"),
        ("d.npz", WANTED, r"cannot be read"),
        ("e.npy", WANTED[:1], r"cannot be read"),
        ("gone.npy", WANTED[:1], r"No such file"),
        ("f.txt", WANTED, r"inputs come from \.npy, \.npz or \.bin"),
    ):
        with pytest.raises(FeedError, match=why):
            read_feed(tmp_path / name, wanted)
