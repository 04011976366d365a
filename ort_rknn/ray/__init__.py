"""Many boards by Ray: a board's resources, a session on each board, an ordered map over all of them.

Needs the extra ``ort-rknn[ray]``. ``python -m ort_rknn.ray`` prints what ``ray start --resources`` takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ort_rknn.ray.batches import BatchRunner as BatchRunner
    from ort_rknn.ray.pool import Pool as Pool
    from ort_rknn.ray.resources import node_resources as node_resources
    from ort_rknn.ray.worker import BoardSession as BoardSession

__all__ = ["BatchRunner", "BoardSession", "Pool", "node_resources"]

_WHERE = {"BatchRunner": "batches", "BoardSession": "worker", "Pool": "pool", "node_resources": "resources"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
