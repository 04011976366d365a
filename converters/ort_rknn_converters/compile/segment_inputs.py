"""The random inputs a part of a model is verified on: what the whole model gives it, or values of its own.

They are made when somebody first looks at them: the compiler is at work by then, and needs them last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.errors import ModelError, RunFailed
from ort_rknn_converters.graph.onnx_graph import to_proto
from ort_rknn_converters.numerics.random_inputs import boundary_values, feeds_for
from ort_rknn_converters.options import ConvertOptions

__all__ = ["LazyFeeds", "RandomFeeds"]

Feed = dict[str, NDArray[Any]]


class LazyFeeds(Sequence[Feed]):
    """Feeds that are made, all at once, when one of them is asked for; their number is known before. Thread-safe.

    Args:
        count: Their number.
        make: Makes them; what it raises is raised for everybody who asks.
    """

    def __init__(self, count: int, make: Callable[[], Sequence[Feed]]) -> None:
        self._count = count
        self._make = make
        self._made: tuple[Feed, ...] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Feed: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Feed]: ...

    def __getitem__(self, index: int | slice) -> Feed | Sequence[Feed]:
        with self._lock:
            if self._made is None:
                self._made = tuple(self._make())
            return self._made[index]


class RandomFeeds:
    """Random inputs of a prepared model and its parts.

    Args:
        model: The model, with fixed shapes.
        options: How many feeds, and the seed.

    Attributes:
        trouble: Why the whole model is not run, in words; empty where it can be.
    """

    def __init__(self, model: ir.Model, options: ConvertOptions) -> None:
        self._model = model
        self._count, self._seed = options.verify_feeds, options.seed
        self._given = {value.name for value in model.graph.inputs}
        self._wanted: frozenset[str] = frozenset()
        self._known: tuple[Feed, ...] | None = None
        self._lock = threading.Lock()
        self.trouble = ""

    def expect(self, names: Iterable[str]) -> None:
        """Say which values will be asked for, so that they are computed in one run of the model."""
        with self._lock:
            self._wanted = frozenset(names)
            self._known = None

    def of(self, part: onnx.ModelProto, inputs: Sequence[str]) -> LazyFeeds:
        """Feeds for a part of the model; a :class:`ModelError` when they are made, if none can be.

        Args:
            part: The part.
            inputs: The values it reads.
        """
        return LazyFeeds(self._count, lambda: self._made(part, inputs))

    def _made(self, part: onnx.ModelProto, inputs: Sequence[str]) -> tuple[Feed, ...]:
        if set(inputs) <= self._given:
            return feeds_for(part, self._count, self._seed)
        with self._lock:
            if self._known is None:
                self._known = self._boundary()
            known = self._known
        if known and all(name in feed for feed in known for name in inputs):
            return tuple({name: feed[name] for name in inputs} for feed in known)
        return feeds_for(part, self._count, self._seed)

    def _boundary(self) -> tuple[Feed, ...]:
        """Every value that may ever cross an edge would be too much: those are taken that cross one now."""
        if self.trouble:  # once is enough
            return ()
        try:
            whole = to_proto(self._model)
            return boundary_values(whole, sorted(self._wanted), feeds_for(whole, self._count, self._seed)) or ()
        except RunFailed as error:
            self.trouble = str(error)
        except ModelError:
            pass
        return ()
