"""Values of inputs that are taken for constants, as users write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ort_rknn_converters.errors import UnknownOption
from ort_rknn_converters.pinned_values import pinned_texts, value_sets


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("0.25,0.5", ("0.25", "0.5")),
        ("True, false", ("true", "false")),
        ("[1,2],[3,4]", ("[1, 2]", "[3, 4]")),
        ("[1,2]", ("[1, 2]",)),
        ([1, 2], ("[1, 2]",)),
        (np.float32(0.5), ("0.5",)),
    ],
)
def test_text_lists_values(given: Any, texts: tuple[str, ...]) -> None:
    assert pinned_texts("r", given) == texts


@pytest.mark.parametrize("given", ["0.25,", "0.25;0.5", "half,0.5", "", ","])
def test_text_that_is_no_value(given: str) -> None:
    with pytest.raises(UnknownOption, match=r"values\['r'\] is a number"):
        pinned_texts("r", given)


@pytest.mark.parametrize(
    ("text", "dims", "values"),
    [
        ("[0.25, 0.5]", (1,), ["0.25", "0.5"]),
        ("[0.25, 0.5]", (), ["0.25", "0.5"]),
        ("[0.25, 0.5]", (2,), ["[0.25, 0.5]"]),
        ("[0.25, 0.5]", ("n",), ["[0.25, 0.5]"]),
        ("[0.25, 0.5]", None, ["[0.25, 0.5]"]),
        ("[[1, 2], [3, 4]]", (2,), ["[1, 2]", "[3, 4]"]),
        ("[[1, 2], [3, 4]]", (None, 2), ["[[1, 2], [3, 4]]"]),
        ("[0.25]", (), ["0.25"]),
        ("0.25", (2, 3), ["0.25"]),
    ],
)
def test_a_list_is_one_value_where_the_input_is_that_long(text: str, dims: Any, values: list[str]) -> None:
    assert value_sets({"r": (text,)}, {"r": dims}) == tuple({"r": one} for one in values)


def test_values_of_several_inputs_belong_together() -> None:
    dims: dict[str, Any] = {"r": (1,), "on": (), "k": (1,)}
    assert value_sets({"r": ("0.5", "0.25"), "on": ("[true, false]",), "k": ("3",)}, dims) == (
        {"r": "0.5", "on": "true", "k": "3"},
        {"r": "0.25", "on": "false", "k": "3"},
    )
    assert value_sets({}, dims) == ({},)
    with pytest.raises(UnknownOption, match=r"inputs with several values need equally many.*r 2, on 3"):
        value_sets({"r": ("0.5", "0.25"), "on": ("1", "0", "1")}, dims)
