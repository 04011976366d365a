"""The random inputs a part of a model is verified on: what the whole model gives it, or values of its own.

They are made when somebody first looks at them: the compiler is at work by then, and needs them last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ort_rknn_converters.errors import ModelError, RunFailed
from ort_rknn_converters.numerics.random_inputs import feeds_for, finite
from ort_rknn_converters.numerics.tensor_error import is_float
from ort_rknn_converters.numerics.whole_run import WholeRun
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
        self._whole: WholeRun | None = None
        self._ordinary: tuple[Feed, ...] | None = None
        self._outputs: list[dict[str, Any]] | None = None
        self._known: tuple[Feed, ...] | None = None
        self._first: tuple[Feed, ...] | None = None
        self._served: set[frozenset[str]] = set()
        self._learned: tuple[Feed, ...] = ()
        self._lock = threading.RLock()
        self._ended: RunFailed | None = None
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

    def whole(self) -> WholeRun:
        """Runs of the whole model; raises :class:`ModelError`."""
        with self._lock:
            self._whole = self._whole or WholeRun(self._model)
            return self._whole

    def ordinary(self) -> tuple[Feed, ...]:
        """Inputs of the whole model that it takes; raises :class:`ModelError` when there are none."""
        with self._lock:
            self.outputs()
            assert self._ordinary is not None
            return self._ordinary

    def outputs(self) -> list[dict[str, Any]]:
        """Results of ONNX Runtime, output name -> array; raises :class:`ModelError` when it cannot."""
        with self._lock:
            if self._outputs is None:
                self._run(())
            assert self._outputs is not None
            return self._outputs

    def learn(self, inputs: Iterable[str], outputs: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Take note of what ONNX Runtime computed of a part, so that the whole model need not be run for it.

        Args:
            inputs: The values that the part reads, as given to :meth:`of`.
            outputs: Per feed, name -> array.
        """
        with self._lock:
            first = self._ordinary is None or self._ordinary is self._first
            if first and frozenset(inputs) in self._served:
                before = self._learned or tuple({} for _ in outputs)
                self._learned = tuple({**known, **found} for known, found in zip(before, outputs, strict=True))

    def _tried_first(self) -> tuple[Feed, ...]:
        """Random inputs of the whole model, whether it takes them or not; raises :class:`ModelError`."""
        if self._first is None:
            self._first = self.whole().feeds(self._count, self._seed)
        return self._first

    def _run(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Run the whole model once for its outputs and for some values inside.

        Random numbers are not valid inputs of every model: a size or a place is not negative. Such get numbers from 0
        to 1 instead, then ones, and at last a size in pixels.
        """
        if self._ended is not None:  # once is enough
            raise self._ended
        whole = self.whole()
        made = (self._ordinary,) if self._ordinary is not None else _kinds(self._tried_first())
        first: ModelError | None = None
        for feeds in made:
            try:
                known = self._learned if feeds is self._first else ()
                found = whole.exact(feeds, [*dict.fromkeys((*names, *whole.outputs))], known)
            except RunFailed as error:
                self._ended, self.trouble = error, str(error)
                raise
            except ModelError as error:
                first = first or error
                continue
            self._ordinary = feeds
            self._outputs = [{name: values[name] for name in whole.outputs} for values in found]
            return found
        assert first is not None
        raise first

    def _made(self, part: onnx.ModelProto, inputs: Sequence[str]) -> tuple[Feed, ...]:
        if set(inputs) <= self._given:
            try:
                with self._lock:
                    feeds = self._tried_first()
            except ModelError:
                return feeds_for(part, self._count, self._seed)
            self._served.add(frozenset(inputs))
            return tuple({name: feed[name] for name in inputs} for feed in feeds)
        with self._lock:
            if self._known is None:
                self._known = self._boundary()
            known = self._known
        if known and all(name in feed for feed in known for name in inputs):
            self._served.add(frozenset(inputs))
            return tuple({name: feed[name] for name in inputs} for feed in known)
        return feeds_for(part, self._count, self._seed)

    def _boundary(self) -> tuple[Feed, ...]:
        """Every value that may ever cross an edge would be too much: those are taken that cross one now."""
        inside = sorted(self._wanted - self._given)
        try:
            found = self._run(inside)
            feeds = self.ordinary()
        except ModelError:
            return ()
        known = tuple(
            {name: feed[name] for name in self._wanted & feed.keys()} | {name: values[name] for name in inside}
            for feed, values in zip(feeds, found, strict=True)
        )
        usable = all(isinstance(a, np.ndarray) and finite(a) for values in known for a in values.values())
        return known if usable else ()


def _kinds(feeds: tuple[Feed, ...]) -> Iterator[tuple[Feed, ...]]:
    """Yields the inputs with ever tamer floats."""
    yield feeds
    generator = np.random.default_rng(0)
    for tame in (generator.random, np.ones, lambda shape: np.full(shape, 640.0)):
        yield tuple(
            {name: tame(a.shape).astype(a.dtype) if is_float(a.dtype) else a for name, a in feed.items()}
            for feed in feeds
        )
