"""Cases: ``run_async``."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from tests.helpers.ort_models import model
from tests.helpers.parity import Bench, case, cases

A = np.array([[1, 2], [3, -4], [5, 6]], np.float32)
B = np.arange(6, dtype=np.float32).reshape(3, 2)
FEED = {"A": A, "B": B}


def _async(names: Any, feed: Any, name: str = "two") -> Any:
    def run(t: Bench) -> Any:
        ended = threading.Event()
        got: list[Any] = []

        def callback(results: Any, user_data: Any, error: str) -> None:
            got.extend((results, user_data, error))
            ended.set()

        options = t.ort.SessionOptions()
        options.intra_op_num_threads = 2
        session = t.open(model(name), options)
        returned = session.run_async(names, feed, callback, "data")
        assert ended.wait(20)
        return [returned, *got]

    return run


cases(
    "async",
    {
        "good": _async(None, FEED),
        "named": _async(["K"], FEED),
        "double": _async(["K", "K"], FEED),
        "list": _async(None, {"A": A.tolist(), "B": B}),
        "missing": _async(None, {"A": A}),
        "extra": _async(None, {**FEED, "Q": A}),
        "dtype": _async(None, {"A": A.astype(np.float64), "B": B}),
        "dims": _async(None, {"A": A[:2], "B": B}),
        "rank": _async(None, {"A": A.ravel(), "B": B}),
        "unconvertible": _async(None, {"A": 1.0, "B": B}),
        "unknown_output": _async(["Z"], FEED),
        "names_of_wrong_type": _async("K", FEED),
        "names_of_wrong_type_moving": _async("Y", {"X": A}, "dynamic"),
        "names_read_once": _async(iter(["K"]), FEED),
        "kernel": _async(None, {"X": A, "i": np.array([9], np.int64)}, "gather"),
    },
)


@case
def async_terminated(t: Bench) -> Any:
    ended = threading.Event()
    got: list[Any] = []
    options = t.ort.RunOptions()
    options.terminate = True
    session_options = t.ort.SessionOptions()
    session_options.intra_op_num_threads = 2
    session = t.open(model("two"), session_options)
    session.run_async(None, FEED, lambda *a: (got.extend(a), ended.set()), None, options)
    assert ended.wait(20)
    return got


@case
def async_without_callback(t: Bench) -> Any:
    try:
        t.open(model("two")).run_async(None, FEED, 3, None)
    except TypeError:
        return "TypeError"


@case
def async_without_user_data(t: Bench) -> Any:
    session, ended = t.open(model("two")), threading.Event()
    session.run_async(None, FEED, lambda *_: ended.set())
    assert ended.wait(30)  # onnxruntime 1.20 never returns from dropping a session that still runs


@case
def run_in_a_callback(t: Bench) -> Any:
    ended = threading.Event()
    got: list[Any] = []
    options = t.ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = t.open(model("two"), options)

    def callback(results: Any, user_data: Any, error: str) -> None:
        got.append(session.run(None, FEED))
        ended.set()

    session.run_async(None, FEED, callback, None)
    assert ended.wait(20)
    return got
