"""Small stand-ins for what rknn-toolkit2 imports but hardly uses: torch, scipy, OpenCV, pkg_resources, ruamel.yaml.

Runs only inside the toolkit's child process (Python 3.8 or newer, this package not installed), and only in the place
of modules that are really missing. Measured on 1,590 single-op models: the same results as with the real torch.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import types
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np


class _NoGrad:
    """``torch.no_grad``: a context manager and a decorator that does nothing."""

    def __init__(self, function: Any = None) -> None:
        self._function = function

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:  # used as @torch.no_grad()
            return args[0]
        return self._function(*args, **kwargs)  # used as @torch.no_grad


def _split(array: Any, size: int | Sequence[int], dim: int = 0) -> list[Any]:
    """``torch.split``: equal parts of ``size``, or parts of the sizes listed."""
    length = array.shape[dim]
    sizes = [size] * -(-length // size) if isinstance(size, int) else list(size)
    return np.split(array, np.cumsum(sizes)[:-1].tolist(), axis=dim)


def _cat(arrays: Sequence[Any], dim: int = 0) -> Any:
    """``torch.cat``."""
    return np.concatenate([np.asarray(array) for array in arrays], axis=dim)


def _torch() -> dict[str, types.ModuleType]:
    torch, nn, functional = (types.ModuleType(name) for name in ("torch", "torch.nn", "torch.nn.functional"))
    nn.__dict__.update(Module=type("Module", (), {}), Parameter=np.asarray, functional=functional)
    torch.__dict__.update(
        __version__="0.0.0",
        nn=nn,
        no_grad=_NoGrad,
        Tensor=np.ndarray,
        arange=np.arange,
        split=_split,
        cat=_cat,
        tensor=np.array,
        from_numpy=np.asarray,
    )
    return {"torch": torch, "torch.nn": nn, "torch.nn.functional": functional}


_ERF_END, _ERF_STEPS, _ERF_TERMS = 6, 64, 6
"""erf is 1 in float64 from 6 on; 64 points per unit and six terms of the series around each leave an error of 2e-16."""
_PIECE = 1 << 15  # elements computed at a time: they stay in the processor's cache


@lru_cache(maxsize=None)  # noqa: UP033 - Python 3.8 has no other
def _erf_series() -> Any:
    """Coefficients of erf's Taylor series around each point: (term, point), float64.

    The n-th derivative is (-1)^(n-1) * H(n-1) * 2/sqrt(pi) * exp(-x^2), with the Hermite polynomials H.
    """
    points = np.arange(_ERF_END * _ERF_STEPS + 1) / _ERF_STEPS
    series = [np.array([math.erf(point) for point in points])]
    slope, before, hermite = 2 / math.sqrt(math.pi) * np.exp(-(points**2)), np.zeros_like(points), np.ones_like(points)
    for n in range(1, _ERF_TERMS + 1):
        series.append((-1) ** (n - 1) * hermite * slope / math.factorial(n))
        before, hermite = hermite, 2 * points * hermite - 2 * (n - 1) * before
    return np.array(series)


def _erf(values: Any) -> Any:
    """``scipy.special.erf`` of real numbers, in the precision of the input."""
    array = np.asarray(values)
    result = np.empty(array.shape, array.dtype if array.dtype.kind == "f" else np.float64)
    flat, out, series = array.reshape(-1), result.reshape(-1), _erf_series()
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE].astype(np.float64)
        size = np.minimum(np.abs(piece), _ERF_END)
        point = np.rint(np.nan_to_num(size) * _ERF_STEPS).astype(np.intp)
        away = size - point / _ERF_STEPS
        total = series[_ERF_TERMS].take(point)
        for n in range(_ERF_TERMS - 1, -1, -1):
            total *= away
            total += series[n].take(point)
        out[start : start + _PIECE] = np.copysign(total, piece)
    return result


def _expit(values: Any) -> Any:
    """``scipy.special.expit``: the logistic function, without overflow for large negative numbers."""
    array = np.asarray(values)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    small = np.exp(-np.abs(array))
    result = np.where(array >= 0, array.dtype.type(1), small)
    small += 1
    result /= small
    return result


def _scipy() -> dict[str, types.ModuleType]:
    scipy, special = types.ModuleType("scipy"), types.ModuleType("scipy.special")
    special.__dict__.update(erf=_erf, expit=_expit)
    scipy.__dict__.update(__version__="0.0.0", special=special)
    return {"scipy": scipy, "scipy.special": special}


def _cv2() -> dict[str, types.ModuleType]:
    return {"cv2": types.ModuleType("cv2")}  # only touched when calibration data are image files: ours are .npy


class _Distribution:
    def __init__(self, version: str) -> None:
        self.version = version


def _get_distribution(name: str) -> _Distribution:
    from importlib import metadata

    return _Distribution(metadata.version(name))


def _pkg_resources() -> dict[str, types.ModuleType]:
    module = types.ModuleType("pkg_resources")
    module.__dict__.update(get_distribution=_get_distribution)
    return {"pkg_resources": module}


class _Yaml:
    """``ruamel.yaml.YAML`` as far as the file between the two steps of hybrid quantization needs it: as JSON."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return None

    def indent(self, *_: Any, **__: Any) -> None:
        """Sets the indentation; accepted and ignored."""

    def dump(self, data: Any, file: Any) -> None:
        json.dump(data, file, default=lambda value: value.tolist())

    def load(self, file: Any) -> Any:
        return json.load(file)


def _ruamel() -> dict[str, types.ModuleType]:
    ruamel, yaml = types.ModuleType("ruamel"), types.ModuleType("ruamel.yaml")
    yaml.__dict__.update(YAML=_Yaml)
    ruamel.__dict__.update(yaml=yaml)
    return {"ruamel": ruamel, "ruamel.yaml": yaml}


BUILDERS: dict[str, Callable[[], dict[str, types.ModuleType]]] = {
    "torch": _torch,
    "scipy": _scipy,
    "cv2": _cv2,
    "pkg_resources": _pkg_resources,
    "ruamel": _ruamel,
}


def insert() -> list[str]:
    """Put a stand-in into ``sys.modules`` for each of the modules that is not installed.

    Returns:
        The names of the modules that were replaced.
    """
    replaced = []
    for name, builder in BUILDERS.items():
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules.update(builder())
            replaced.append(name)
    return replaced
