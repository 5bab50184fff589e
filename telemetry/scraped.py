"""Serves the values of `metrics` to Prometheus on a port of its own, formatted by its client library.

The server runs in a thread, so that it also answers while the event loop is blocked.
"""

import logging
from collections.abc import Iterator
from itertools import accumulate
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from telemetry.metrics import METRICS, Counter, Gauge, Histogram, Metric

log = logging.getLogger(__name__)


class PartCollector(Collector):
    """The metrics of one part of Innkeeper, collected at each scrape."""

    def __init__(self, part: str) -> None:
        self._metrics = [metric for metric in METRICS if part in metric.services]

    def collect(self) -> Iterator[Family]:
        """Return every metric with its present values."""
        return map(_family, self._metrics)


def registry_of(part: str) -> CollectorRegistry:
    """Return the metrics of a process: its part's, and the library's about memory, time and garbage."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PartCollector(part))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def serve(part: str, host: str, port: int) -> WSGIServer:
    """Answer scrapes at this address from now on; port 0 takes a free one.

    Raises:
        OSError: the port is in use.
    """
    server, _ = start_http_server(port, host, registry_of(part))
    log.info("metrics at http://%s:%d/metrics", host, server.server_port)
    return server


def _family(metric: Metric) -> Family:
    match metric:
        case Counter():
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, count in metric.values.copy().items():
                counter.add_metric(labels, count)
            return counter
        case Gauge():
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.values().items():
                gauge.add_metric(labels, value)
            return gauge
        case Histogram():
            return _histogram(metric)
        case _:
            raise TypeError(f"{metric.name} has an unknown kind")


def _histogram(metric: Histogram) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    ends = [*map(str, metric.bounds), "+Inf"]
    for labels, series in metric.series.copy().items():
        counts = accumulate(series.counts.copy())
        family.add_metric(labels, list(zip(ends, counts, strict=True)), series.total)
    return family
