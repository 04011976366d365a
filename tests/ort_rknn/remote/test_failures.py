"""Errors across the wire come back as the class and the text they were."""

from __future__ import annotations

import pytest

from ort_rknn import errors
from ort_rknn.ort_conventions import ort_error
from ort_rknn.ort_private.errors import error_class
from ort_rknn.remote.failures import MOST_TEXT, Failure, Refusal, failure_of, rebuilt

ERRORS = [
    (ort_error("InvalidArgument", "bad"), "INVALID_ARGUMENT", 400),
    (ort_error("NoSuchFile", "bad"), "NOT_FOUND", 404),
    (ort_error("Fail", "bad"), "INTERNAL", 500),
    (ort_error("NotImplemented", "bad"), "UNIMPLEMENTED", 501),
    (ort_error("InvalidProtobuf", "bad"), "INTERNAL", 500),
    (ValueError("bad"), "INVALID_ARGUMENT", 400),
    (errors.SubmitTimeout("full"), "RESOURCE_EXHAUSTED", 429),
    (errors.InferenceTimeout("slow"), "DEADLINE_EXCEEDED", 504),
    (errors.SessionClosed("closed"), "UNAVAILABLE", 503),
    (errors.DeviceError("no"), "INTERNAL", 500),
]


@pytest.mark.parametrize(("error", "code", "status"), ERRORS, ids=lambda value: type(value).__name__)
def test_there_and_back(error: Exception, code: str, status: int) -> None:
    failure = failure_of(error)
    assert (failure.code, failure.http) == (code, status)
    back = rebuilt(failure, "board:8001", 1.0)
    assert type(back) is type(error)
    assert str(back) == str(error)


def test_classes_nobody_knows_are_told_by_name() -> None:
    class Odd(Exception):
        pass

    failure = failure_of(Odd("strange"))
    assert failure == Failure("INTERNAL", "", "Odd: strange")
    back = rebuilt(failure, "board:8001", 1.0)
    assert isinstance(back, errors.DeviceError)
    assert (back.code_name, str(back)) == ("INTERNAL", "board:8001: Odd: strange")


def test_long_texts_are_cut() -> None:
    assert len(failure_of(ValueError("x" * 100_000)).text) < MOST_TEXT + 10


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("UNAVAILABLE", errors.DeviceUnavailable, "no answer from board:8001: x. Is `ort-rknn serve` running there?"),
        ("DEADLINE_EXCEEDED", errors.InferenceTimeout, "board:8001 gave no answer within 2 s: x"),
        ("UNAUTHENTICATED", errors.DeviceUnavailable, "another token: x. Set ORT_RKNN_TOKEN"),
        ("RESOURCE_EXHAUSTED", errors.SubmitTimeout, "board:8001 is busy"),
        ("NOT_FOUND", error_class("NoSuchFile"), "3 : NO_SUCHFILE : board:8001: x"),
    ],
)
def test_statuses_without_a_class(code: str, kind: type[Exception], text: str) -> None:
    back = rebuilt(Failure(code, "", "x"), "board:8001", 2.0)
    assert isinstance(back, kind)
    assert text in str(back)


def test_refusals_are_themselves() -> None:
    assert failure_of(Refusal("NOT_FOUND", "none")) == Failure("NOT_FOUND", "", "none")
