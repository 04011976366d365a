from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import check_prepared, one_op, random

SIZES = {"b": 2, "h": 3, "i": 4, "j": 5, "k": 6, "d": 2, "e": 3}


def operands(equation: str) -> dict[str, np.ndarray]:
    terms = equation.replace(" ", "").split("->")[0].split(",")
    return {f"x{index}": random(*(SIZES[label] for label in term), seed=index) for index, term in enumerate(terms)}


@pytest.mark.parametrize(
    "equation",
    [
        "ij->ji",
        "ij->i",
        "ij->",
        "ij",
        "ij,jk->ik",
        "ij,jk",
        "ij, jk -> ki",
        "bij,bjk->bik",
        "bhid,bhjd->bhij",
        "bihd,bjhd->bhij",
        "bhij,bjhd->bihd",
        "i,i->",
        "i,j->ij",
        "bij,bij->bij",
        "bij,j->bi",
        "bhi,hde->bide",
        "ij,kj->",
        "bhd,ihd->bi",
        "ij,jk,kd->id",
        "bi,bj,bk->bijk",
    ],
)
def test_same_answer_without_the_op(equation: str) -> None:
    feed = operands(equation)
    check_prepared(one_op("Einsum", feed, equation=equation), feed, gone=["Einsum"], rtol=1e-4)


def test_a_plain_product_is_one_matmul() -> None:
    feed = operands("bij,bjk->bik")
    check_prepared(one_op("Einsum", feed, equation="bij,bjk->bik"), feed, ops=["MatMul"])


@pytest.mark.parametrize("equation", ["ii->i", "...i,...i->..."])
def test_diagonals_and_ellipses_stay(equation: str) -> None:
    terms = equation.split("->")[0].split(",")
    feed = {f"x{index}": random(4, 4, seed=index) for index in range(len(terms))}
    check_prepared(one_op("Einsum", feed, equation=equation), feed, ops=["Einsum"])
