"""Int8 where it costs little, float16 where it costs much: the fewest float16 layers that keep a promised accuracy.

Every layer is measured alone, quantized among float16 ones, on the toolkit's rounding as we compute it
(:mod:`ort_rknn_converters.numerics.int8_rounding`: a run of ONNX Runtime, no compilation). The worst become float16,
as many as the promise needs; then the toolkit builds that and its simulator has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ort_rknn_converters.errors import ToolkitFailed
from ort_rknn_converters.numerics.int8_rounding import Rounder
from ort_rknn_converters.numerics.storage_map import StorageMap
from ort_rknn_converters.onnx_file import onnxruntime as ort
from ort_rknn_converters.onnx_file.bounded_run import SLOW_S, Run, bounded
from ort_rknn_converters.rknn_format.reader import read_rknn
from ort_rknn_converters.rknn_format.values import RknnFile
from ort_rknn_converters.toolkit.compile import CompileRequest, CompileResult
from ort_rknn_converters.util.frozen import frozen, replace

__all__ = ["EVALUATED", "MixedPrecision", "Trade", "fewest", "loss", "search_mixed_precision", "trade_table"]

Array = NDArray[Any]
Answers = Sequence[Mapping[str, Array]]

EVALUATED = 100
"""Samples the error is measured on. Measured on the digits: with 16 it was a third of the error on other images."""

_SEARCHED = 32  # of these, on which mixtures are tried out (a guess)
_LOOKED_AT = 4  # of these, on which single layers are compared: only their order matters (a guess)
_MARGIN = 0.95  # of the promise our own computation must keep: single quanta may differ from the toolkit's (a guess)
_BUILDS = 6  # of the toolkit, before everything becomes float16 (a guess)


@frozen
class Trade:
    """One build: what it costs and what it gives.

    Attributes:
        name: ``int8``, ``mixed`` or ``fp16``.
        size: Bytes of the compiled code.
        fp16_layers: Layers in float16 that could be int8.
        layers: Layers that could be int8.
        loss: Its error, in the metric asked for; measured on the toolkit's simulator.
    """

    name: str
    size: int
    fp16_layers: int
    layers: int
    loss: float


@frozen
class MixedPrecision:
    """Result of a search.

    Attributes:
        result: The build to use.
        trades: Every build, in order; the last is the one to use.
        reached: Whether it keeps the promise.
    """

    result: CompileResult
    trades: tuple[Trade, ...]
    reached: bool


def loss(metric: str, expected: Answers, actual: Answers) -> float:
    """Loss of some answers; the worst of all floating outputs.

    Args:
        metric: ``cosine``: 1 minus the cosine similarity, mean over the samples. ``rel-rms``: RMS of the difference
            over RMS of what is expected, over all samples. ``top1``: share of rows whose largest element is another.
        expected: Per sample, output name -> array.
        actual: The same.
    """
    worst = 0.0
    for name in expected[0]:
        if expected[0][name].dtype.kind != "f":
            continue
        want = np.stack([np.asarray(one[name], np.float64) for one in expected])
        got = np.stack([np.asarray(one[name], np.float64).reshape(want.shape[1:]) for one in actual])
        worst = max(worst, _loss(metric, want, got))
    return worst


def _loss(metric: str, want: Array, got: Array) -> float:
    if not np.isfinite(got).all():
        return float("inf")
    if metric == "top1":
        return float(np.mean(want.argmax(-1) != got.argmax(-1)))
    if metric == "rel-rms":
        size = float(np.sqrt(np.mean(want**2)))
        return float(np.sqrt(np.mean((got - want) ** 2))) / (size or 1.0)
    want, got = (array.reshape(len(array), -1) for array in (want, got))
    sizes = np.linalg.norm(want, axis=1) * np.linalg.norm(got, axis=1)
    cosines = np.where(sizes > 0, np.sum(want * got, axis=1) / np.where(sizes > 0, sizes, 1), 0.0)
    cosines[np.all(want == got, axis=1)] = 1.0
    return max(0.0, 1.0 - float(np.mean(cosines)))


def search_mixed_precision(
    model: onnx.ModelProto,
    request: CompileRequest,
    plain: CompileResult,
    compile: Callable[[CompileRequest], CompileResult],
    *,
    max_loss: float,
    metric: str,
) -> MixedPrecision:
    """Keep a promise with as few float16 layers as can be found.

    Args:
        model: The lowered segment, with all its weights.
        request: What was compiled as int8; its feeds are what the error is measured on.
        plain: What came of it.
        compile: Compiles another request.
        max_loss: The promise.
        metric: What it is about, see :func:`loss`.

    Raises:
        ToolkitFailed: The toolkit fails on all mixtures and on float16.
    """
    expected = _run(model, request.feeds)
    bench = MixedPrecisionTrial(model, read_rknn(plain.rknn), request.feeds, expected, metric)
    layers = bench.layers
    trades = [Trade("int8", len(plain.rknn), 0, len(layers), loss(metric, expected, plain.outputs))]
    if trades[0].loss <= max_loss:
        return MixedPrecision(plain, tuple(trades), True)
    order = bench.worst_first()
    chosen = fewest(order, lambda some: bench.loss(some) <= max_loss * _MARGIN)
    for _ in range(_BUILDS if layers else 0):
        options = {**request.options, "float16": tuple(sorted(bench.with_insides(chosen)))}
        try:
            result = compile(replace(request, options=options))
        except ToolkitFailed:
            break
        trades.append(
            Trade("mixed", len(result.rknn), len(chosen), len(layers), loss(metric, expected, result.outputs))
        )
        if trades[-1].loss <= max_loss:
            return MixedPrecision(result, tuple(trades), True)
        if len(chosen) == len(layers):
            break
        more = max(1, len(layers) // 10)
        chosen |= set([layer for layer in order if layer not in chosen][:more])
    result = compile(replace(request, precision="fp16", options={}))
    trades.append(Trade("fp16", len(result.rknn), len(layers), len(layers), loss(metric, expected, result.outputs)))
    return MixedPrecision(result, tuple(trades), trades[-1].loss <= max_loss)


def fewest(order: Sequence[str], holds: Callable[[Iterable[str]], bool]) -> set[str]:
    """Finds as few things as possible, the worst first: bisection, then each is tried to be left out."""
    low, high = 1, len(order)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(order[:middle]) else (middle + 1, high)
    chosen = list(order[:low])
    if holds(chosen):
        for layer in reversed(order[:low]):
            fewer = [one for one in chosen if one != layer]
            if fewer and holds(fewer):
                chosen = fewer
    return set(chosen)


class MixedPrecisionTrial:
    """Measures mixtures without the toolkit."""

    def __init__(self, model: onnx.ModelProto, file: RknnFile, feeds: Answers, expected: Answers, metric: str) -> None:
        self._rounder, self._metric = Rounder(model, file), metric
        self._feeds, self._expected = feeds, expected
        graph = model.graph
        base, tensors = StorageMap(graph, file).base, file.tensors
        self._makers = {name: node for node in graph.node for name in node.output}
        self._inputs = {value.name: {u.output[0] for u in graph.node if value.name in u.input} for value in graph.input}
        self._stored = set(base)
        self.layers = [
            value
            for node in graph.node
            for value in node.output
            if value in base and tensors[base[value]].dtype == "int8"
        ]

    def loss(self, fp16: Iterable[str], metric: str = "", count: int = _SEARCHED) -> float:
        """The error with some layers in float16, on ``count`` of the feeds."""
        chosen = set(fp16)
        whole = self.with_insides(chosen)
        chosen |= {name for name, users in self._inputs.items() if users and users <= whole}
        rounded = self._rounder.rounded(frozenset(chosen))
        some = slice(None, None, -(-len(self._feeds) // count))
        return loss(metric or self._metric, self._expected[some], _run(rounded, self._feeds[some]))

    def worst_first(self) -> list[str]:
        """The layers by the error that each makes when it alone is int8."""
        every = set(self.layers)
        errors = {layer: self.loss(every - {layer}, "rel-rms", _LOOKED_AT) for layer in self.layers}
        return sorted(self.layers, key=lambda layer: -errors[layer])

    def with_insides(self, layers: Iterable[str]) -> set[str]:
        """The values of some layers, those included that were fused into them and are stored nowhere."""
        found: set[str] = set()
        waiting = list(layers)
        while waiting:
            value = waiting.pop()
            node = self._makers.get(value)
            if node is None or value in found:
                continue
            found.add(value)
            waiting += [name for name in node.input if name in self._makers and name not in self._stored]
        return found


def _run(model: onnx.ModelProto, feeds: Answers) -> list[dict[str, Array]]:
    names = [value.name for value in model.graph.output]

    def answers(run: Run) -> list[dict[str, Array]]:
        session = ort.on_cpu(model.SerializeToString(), ort.quiet_options("ORT_DISABLE_ALL"))
        found = []
        for feed in feeds:
            run.next_feed()
            found.append(dict(zip(names, session.run(names, dict(feed), run.options), strict=True)))
        return found

    with ort.onnxruntime_errors("ONNX Runtime cannot run a quantized form of the segment"):
        return bounded(answers, SLOW_S, "a quantized form of the segment")


def trade_table(segment: str, mixed: MixedPrecision, max_loss: float, metric: str, samples: int) -> str:
    """The trade in words, one row a build.

    Args:
        segment: Its name.
        mixed: What came of the search.
        max_loss: What was promised.
        metric: In terms of what, see :func:`loss`.
        samples: Calibration samples that the losses were measured on.
    """
    reached = "reached" if mixed.reached else "NOT reached"
    over = f"{samples} calibration sample{'s' if samples != 1 else ''}"
    rows = [f"accuracy of {segment}: at most {max_loss:g} by {metric} over {over}, simulated: {reached}"]
    rows += [
        f"  {one.name:5}  {one.size / 1e3:10,.0f} kB  {one.fp16_layers:3} of {one.layers} layers float16  "
        f"{metric} loss {one.loss:.2g}"
        for one in mixed.trades
    ]
    return "\n".join(rows)
