"""Name, element type and shape of a value, as plain data: needs neither onnx nor numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ort_rknn_converters.util.frozen import frozen

__all__ = ["TensorInfo"]


@frozen
class TensorInfo:
    """Name, ONNX element type and shape of a value that crosses a segment's boundary.

    Attributes:
        name: The ONNX value's name.
        dtype: onnxruntime's spelling, e.g. ``tensor(float)``, ``tensor(int64)``.
        shape: Dimensions: a number, a symbol's name, or ``None`` where unknown. An NPU segment has numbers only.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TensorInfo:
        """Reads what :func:`dataclasses.asdict` gives, also after a way through JSON.

        Raises:
            KeyError, TypeError: The data are of another form.
        """
        return cls(data["name"], data["dtype"], tuple(data["shape"]))

    @classmethod
    def from_dicts(cls, rows: Iterable[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
        """Reads several, see :meth:`from_dict`."""
        return tuple(map(cls.from_dict, rows))
