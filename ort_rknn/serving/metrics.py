"""Prometheus metrics, read from the service when they are asked for: a call pays nothing for them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ort_rknn.serving.service import Service
from ort_rknn.serving.statistics import BUCKETS

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics:
    """The page of metrics of one service.

    Args:
        service: What is measured.
    """

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Numbers(service))

    def page(self) -> bytes:
        """The metrics as text, in the type :data:`CONTENT_TYPE_LATEST`."""
        return generate_latest(self._registry)


class _Numbers(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        yield GaugeMetricFamily("ort_rknn_ready", "1 where calls are welcome", value=int(service.ready))
        yield GaugeMetricFamily("ort_rknn_calls_under_way", "Calls that were let in", value=service.under_way)
        yield GaugeMetricFamily("ort_rknn_calls_most", "Calls that are let in at once", value=service.pending)
        yield GaugeMetricFamily("ort_rknn_models_open", "Open models", value=len(service.repository.open_models()))
        calls = CounterMetricFamily("ort_rknn_calls", "Calls that ended, by gRPC's status", labels=["model", "status"])
        seconds = HistogramMetricFamily("ort_rknn_call_seconds", "Time of answered calls", labels=["model"])
        queue = CounterMetricFamily("ort_rknn_queue_seconds", "Time that jobs waited for a core", labels=["model"])
        for name, statistics in service.repository.all_statistics().items():
            now = statistics.snapshot()
            for code, count in now.codes.items():
                calls.add_metric([name, code], count)
            sums = [sum(now.buckets[: number + 1]) for number in range(len(now.buckets))]
            limits = [*map(str, BUCKETS), "+Inf"]
            seconds.add_metric([name], list(zip(limits, map(float, sums), strict=True)), now.seconds)
            queue.add_metric([name], now.queue_seconds)
        yield calls
        yield seconds
        yield queue
