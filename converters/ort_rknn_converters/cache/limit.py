"""Size limit of the cache."""

from __future__ import annotations

import os

from ort_rknn_converters.util.log import logger

__all__ = ["DEFAULT_LIMIT", "LIMIT_VARIABLE", "limit", "size_in"]

DEFAULT_LIMIT = 10 * 2**30
"""Bytes the entries may take before the least recently used go: about a hundred large models. A guess."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}

LIMIT_VARIABLE = "ORT_RKNN_CACHE_LIMIT"


def limit() -> int:
    """Bytes that all entries together may take: the environment's ``ORT_RKNN_CACHE_LIMIT``, or the default."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        return size_in(text) if text else DEFAULT_LIMIT
    except ValueError as error:
        logger().warning("%s is ignored: %s", LIMIT_VARIABLE, error)
        return DEFAULT_LIMIT


def size_in(text: str) -> int:
    """Bytes in ``500M``, ``2GiB`` or ``1000``.

    Raises:
        ValueError: It is no size.
    """
    number = text.strip().lower().removesuffix("b")
    unit = next((unit for unit in sorted(_UNITS, reverse=True) if unit and number.endswith(unit)), "")
    number = number.removesuffix(unit).strip()
    if not number.replace(".", "", 1).isdecimal():
        raise ValueError(f"{text!r} is not a size such as 500M or 2G")
    return int(float(number) * _UNITS[unit])
