"""A class for Ray Data: ``dataset.map_batches(BatchRunner, fn_constructor_kwargs={"model": path}, ...)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ort_rknn.ray.worker import BoardSession

__all__ = ["BatchRunner"]


class BatchRunner:
    """Runs batches of a dataset, a row an inference, on all cores of the board.

    Args:
        model: The model's bytes, its path on the boards, or Ray's reference to the bytes (``ray.put``).
        columns: Input name -> column, where the names differ.
        output_names: Outputs that become columns; all when ``None``.
        options: Provider options.
    """

    def __init__(
        self,
        model: Any,
        columns: Mapping[str, str] | None = None,
        output_names: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, (bytes, str)):
            import ray

            model = ray.get(model)  # no limit: Ray raises when the object or its owner is lost
        self.opened = BoardSession(model, options).opened
        inputs = [argument.name for argument in self.opened.get_inputs()]
        self._columns = {name: (columns or {}).get(name, name) for name in inputs}
        self._names = list(output_names or [output.name for output in self.opened.get_outputs()])
        self._ranks = {argument.name: len(argument.shape) for argument in self.opened.get_inputs()}

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """The batch with a column more for each output."""
        rows = len(next(iter(batch.values())))
        results = list(self.opened.map(self._names, (self._feed(batch, row) for row in range(rows))))
        columns = {
            name: np.stack([_row(result[number]) for result in results]) for number, name in enumerate(self._names)
        }
        return {**batch, **columns}

    def _feed(self, batch: Mapping[str, np.ndarray[Any, Any]], row: int) -> dict[str, np.ndarray[Any, Any]]:
        feed = {}
        for name, column in self._columns.items():
            value = np.asarray(batch[column][row])
            feed[name] = value[np.newaxis] if value.ndim == self._ranks[name] - 1 else value  # the batch's axis
        return feed


def _row(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    return array[0] if array.ndim and array.shape[0] == 1 else array
