"""Starts the toolkit's process before there is anything to compile, where the time before can be used for that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

from ort_rknn_converters.toolkit.prestart import Standby

if TYPE_CHECKING:
    from ort_rknn_converters.toolkit.compile import CompileResult

__all__ = ["started_early"]

_WORTH = 1 << 20
"""Bytes of a model from which on it is worth it. A guess: smaller ones are prepared before the toolkit is ready."""


@contextmanager
def started_early(model: Any) -> Iterator[Callable[..., CompileResult] | None]:
    """Start a child for a model that is going to be read, prepared and cut.

    Args:
        model: A path, bytes or a ``ModelProto``.

    Returns:
        A context manager that gives a :func:`compile_segment` whose first call uses that child, and that ends the
        child if nobody did; ``None`` for small models.
    """
    if _size(model) < _WORTH:
        yield None
        return
    with Standby() as standby:

        def compile(*args: Any, **kwargs: Any) -> CompileResult:
            from ort_rknn_converters.toolkit.compile import compile_segment  # not before the child is started

            return compile_segment(*args, standby=standby, **kwargs)

        yield compile


def _size(model: Any) -> int:
    """Bytes, about."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        return len(model)
    if isinstance(model, (str, os.PathLike)):
        try:
            return os.stat(model).st_size  # noqa: PTH116 - a PathLike need not be a Path
        except OSError:
            return 0  # whoever reads it will say so
    return sum(4 * prod(tensor.dims) for tensor in model.graph.initializer)  # ByteSize() would copy them all
