"""Proves the whole compiled model, not only its segments: rounded as the NPU rounds, against ONNX Runtime.

Segments that are right can add up to a model that is wrong: a node on the CPU gets its operand through fp16, errors of
segments add. The numbers need no compiled code, so they are taken while the compiler works.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from ort_rknn_converters.compile.rounding_search import Search, is_delicate
from ort_rknn_converters.compile.segment_inputs import RandomFeeds
from ort_rknn_converters.errors import ModelError
from ort_rknn_converters.graph.dataflow import DataFlow
from ort_rknn_converters.numerics.output_errors import Off, off, summary, usual_sizes
from ort_rknn_converters.numerics.tensor_error import is_float
from ort_rknn_converters.numerics.tolerance import tolerance
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.partition.cost_model import flops
from ort_rknn_converters.partition.plan import Plan
from ort_rknn_converters.partition.whole_model import WholeModel
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Proof", "Verdict"]

_SMALLER = 100
_ROUNDS = 6
"""Cures of one conversion, each followed by a compilation. A guess."""
_LARGE = 2e9
"""Operations of a model from which one feed is enough, and other sizes of inputs are run only where it has an op that
tells small numbers from nothing. A guess: a run takes half a second there."""

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


@frozen
class Verdict:
    """Result of a proof.

    Attributes:
        whole: How right the model is; ``None`` where it cannot be measured.
        reasons: Nodes that must go to the CPU, and why: then the cut is to be made again.
        note: Why nothing was measured; empty otherwise.
    """

    whole: WholeModel | None
    reasons: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@frozen
class _Inputs:
    """Inputs of one size, in words (empty: ordinary), what comes out, and how large that usually is."""

    words: str
    feeds: Sequence[Mapping[str, Any]]
    expected: Sequence[Mapping[str, Any]]
    usual: Mapping[str, float] | None = None


class Proof:
    """Proves cuts of one prepared model.

    Args:
        flow: Its nodes.
        feeds: Its random inputs, and runs of it.
        options: How it is converted.
        original: The model as it came, path or bytes, where ONNX Runtime has other kernels for it than for the prepared
            one (few bits); else ``None``.
    """

    def __init__(
        self, flow: DataFlow, feeds: RandomFeeds, options: ConvertOptions, original: str | bytes | None = None
    ) -> None:
        self._original = original
        self._flow = flow
        self._feeds = feeds
        self._options = options
        self._number = {node.name or "": index for index, node in enumerate(flow.nodes)}
        self._lock = threading.Lock()
        self._inputs: tuple[_Inputs, ...] | None = None
        self._measured: dict[frozenset[int], tuple[dict[str, Off], ...]] = {}
        self._rounds = 0

    @property
    def applies(self) -> bool:
        """Whether there is something to measure: int8 has its own tolerance and random ops have none."""
        kinds = {node.op_type for node in self._flow.nodes}
        quantized = self._options.quantized or "QuantizeLinear" in kinds
        return bool(self._options.verify_feeds) and not quantized and not kinds & _RANDOM

    def begin(self, plan: Plan) -> None:
        """Measure a cut, unless that was done. Thread-safe; raises :class:`ModelError` where it cannot be."""
        if self.applies and plan.segments:
            self._sizes(frozenset(self._number[name] for segment in plan.segments for name in segment.nodes))

    def verdict(self, plan: Plan) -> Verdict:
        """Say how right a cut is, or which nodes would have to be on the CPU."""
        if not self.applies or not plan.segments:
            return Verdict(None)
        segments = tuple(tuple(self._number[name] for name in segment.nodes) for segment in plan.segments)
        rounded = frozenset(index for segment in segments for index in segment)
        try:
            ordinary, *others = self._sizes(rounded)
            assert self._inputs is not None
            if self._rounds < _ROUNDS and (reasons := self._cure(segments, self._inputs, (ordinary, *others))):
                self._rounds += 1
                return Verdict(None, reasons)
        except ModelError as error:
            return Verdict(None, note=f"the whole model was not compared: {error}")
        return Verdict(summary(ordinary, self._others(ordinary, others)))

    def _others(self, ordinary: Mapping[str, Off], others: Sequence[Mapping[str, Off]]) -> list[str]:
        assert self._inputs is not None
        notes = []
        for inputs, found in zip(self._inputs[1:], others, strict=True):
            wrong = [f"{name} {one.words}" for name, one in found.items() if not one.right and _right(ordinary, name)]
            if wrong:
                notes.append(f"{inputs.words}: {', '.join(wrong)}")
        return notes

    def _cure(
        self, segments: tuple[tuple[int, ...], ...], inputs: Sequence[_Inputs], found: Sequence[Mapping[str, Off]]
    ) -> dict[str, str]:
        rounded = frozenset(index for segment in segments for index in segment)
        for each, sizes in zip(inputs, found, strict=True):
            wrong = {name: one for name, one in sizes.items() if one.size > self._limit(name, one)}
            if each.words:
                wrong = {name: one for name, one in wrong.items() if _right(found[0], name)}
            if not wrong or (each.words and self._options.npu_only):
                continue

            def size(exact: frozenset[int], each: _Inputs = each, wrong: Mapping[str, Off] = wrong) -> float:
                now = self._compared(rounded - exact, each)
                return max(_ratio(now[name], self._limit(name, now[name])) for name in wrong)

            values = frozenset(value for value in self._flow.results if value.name in wrong)
            decides = not all(one.floating for one in wrong.values())
            search = Search(self._flow, segments, values, size, decides)
            # One segment that is the whole model has no border: its own verification had its say.
            alone = len(segments) == 1 and len(rounded) == len(self._flow.nodes)
            moved = search.delicate() if each.words or alone else search.border() or search.delicate()
            # Where nothing would be left on the NPU, the figure is the better answer.
            if moved and not (moved == rounded and (each.words or alone)):
                what = ", ".join(f"{name} {one.words}" for name, one in wrong.items())
                where = f"on {each.words} " if each.words else ""
                reason = f"rounded to fp16 it makes the whole model wrong {where}({what})"
                return {self._flow.nodes[index].name or "": reason for index in moved}
        return {}

    def _limit(self, name: str, one: Off) -> float:
        """Beyond it a cure is looked for."""
        return tolerance("fp16", name in self._feeds.whole().after_softmax) if one.floating else 0.0

    def _sizes(self, rounded: frozenset[int]) -> tuple[dict[str, Off], ...]:
        with self._lock:
            if self._inputs is None:
                self._inputs = self._made()
            if rounded not in self._measured:
                self._measured[rounded] = tuple(self._compared(rounded, inputs) for inputs in self._inputs)
            return self._measured[rounded]

    def _compared(self, rounded: frozenset[int], inputs: _Inputs) -> dict[str, Off]:
        names = [self._flow.nodes[index].name or "" for index in rounded]
        return off(inputs.expected, self._feeds.whole().rounded(names, inputs.feeds), inputs.usual)

    def _made(self) -> tuple[_Inputs, ...]:
        feeds = self._feeds.ordinary()
        expected = self._of_original(feeds) or self._feeds.outputs()
        large = sum(flops(node) for node in self._flow.nodes if node.outputs) > _LARGE
        made = [_Inputs("", feeds[:1], expected[:1]) if large else _Inputs("", feeds, expected)]
        usual = usual_sizes(expected)
        if any(is_float(array.dtype) for array in feeds[0].values()) and (not large or self._delicate()):
            for words, factor in ((f"inputs {_SMALLER} times smaller", 1 / _SMALLER), ("inputs of zeros", 0.0)):
                small = _scaled(feeds[0], factor)
                try:
                    made.append(_Inputs(words, [small], self._feeds.whole().exact([small]), usual))
                except ModelError:  # not every model takes every input
                    continue
        return tuple(made)

    def _of_original(self, feeds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers of ONNX Runtime to the model as it came; nothing where it is not asked, or cannot."""
        if self._original is None:
            return []
        names = self._feeds.whole().outputs
        try:
            session = ort.on_cpu(self._original, ort.quiet_options())
            return [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]
        except Exception:  # onnxruntime's classes share no base below Exception
            return []

    def _delicate(self) -> bool:
        return any(is_delicate(node) for node in self._flow.nodes)


def _right(found: Mapping[str, Off], name: str) -> bool:
    return name not in found or found[name].right


def _ratio(one: Off, limit: float) -> float:
    """1 at the limit; for whole numbers, which must be equal, above 1 with every one that is not."""
    return one.size / limit if limit else 1.0 + 1e3 * one.size if one.size else 0.0


def _scaled(feed: Mapping[str, Any], factor: float) -> dict[str, Any]:
    return {
        name: (array.astype(np.float64) * factor).astype(array.dtype) if is_float(array.dtype) else array
        for name, array in feed.items()
    }
