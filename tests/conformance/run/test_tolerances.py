"""Every tolerance is explained, with the number that is used."""

from __future__ import annotations

from ort_rknn_conformance.run.tolerances import EXPLAINED, meaning
from ort_rknn_converters.numerics.tolerance import group_tolerance, tolerance


def test_every_tolerance_is_explained() -> None:
    limits = {explained.limit for explained in EXPLAINED}
    assert {tolerance("fp16", False), tolerance("fp16", True), tolerance("int8", True), 1e-5, 0.1} == limits
    assert all(explained.source and explained.decision for explained in EXPLAINED)


def test_the_meaning_is_of_the_number() -> None:
    assert "within about 1 % of each other" in meaning(0.005)
    assert "about 1.6 pixels" in meaning(0.005)
    assert "less than 0.1 pixels" in meaning(1e-5)
    assert "about 128 pixels: it only tells a coarse result from a wrong one" in meaning(0.4)


def test_groups_may_be_off_by_more_but_not_be_lost() -> None:
    assert group_tolerance(0.005) == 0.025
    assert group_tolerance(0.02) == 0.1
    assert group_tolerance(0.4) == 0.5
    assert group_tolerance(0.9) == 0.9  # the user's own
