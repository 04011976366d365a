"""The way to one model on a server, whatever the protocol below: its config, and an inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ort_rknn_converters.util.frozen import frozen

__all__ = ["Tensor", "Transport"]


@frozen
class Tensor:
    """An input on its way.

    Attributes:
        name: Its name.
        datatype: The protocol's name of its type.
        array: In C order.
    """

    name: str
    datatype: str
    array: np.ndarray[Any, Any]


class Transport(Protocol):
    """A protocol's way to one model on one or several servers."""

    def config(self, timeout: float) -> Mapping[str, Any]:
        """Triton's model config as JSON, with the shapes of the model's metadata.

        Raises:
            Exception: What the server says, or that it says nothing.
        """

    def infer(
        self, inputs: Sequence[Tensor], outputs: Sequence[str], timeout: float
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """Run one inference; at least once, for it is tried again where no answer came.

        Raises:
            Exception: What the server says, or that it says nothing.
        """

    def close(self) -> None:
        """Give the connections back. May be called twice."""
