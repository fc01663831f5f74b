"""Counts of a function, told in Prometheus' text form. The client library is imported when somebody asks for them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Metrics:
    """What one function counts about itself."""

    def __init__(self) -> None:
        self.requests_in_flight = 0
        self.uploaded_bytes = 0
        self._counters: dict[str, tuple[str, tuple[str, ...], Counter[tuple[str, ...]]]] = {}
        self._requests = self.counter("caesarion_requests", "Requests answered.", "method", "route", "status")
        self._durations: dict[str, list[int]] = {}
        self._duration_sums: dict[str, float] = {}
        self._executions = self.counter("caesarion_executions", "Executions that finished, by status.", "status")
        self._gauges: list[tuple[str, str, Callable[[], float]]] = [
            ("caesarion_requests_in_flight", "Requests being answered.", lambda: self.requests_in_flight)
        ]

    def count_request(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count an answered request."""
        self._requests[(method if method in KNOWN_METHODS else "other", route, str(status))] += 1
        buckets = self._durations.setdefault(route, [0] * (len(BUCKETS_S) + 1))
        buckets[next((i for i, limit in enumerate(BUCKETS_S) if duration_s <= limit), len(BUCKETS_S))] += 1
        self._duration_sums[route] = self._duration_sums.get(route, 0.0) + duration_s

    def count_execution(self, status: str) -> None:
        """Count an execution that was followed to its end."""
        self._executions[status,] += 1

    def counter(self, name: str, meaning: str, *labels: str) -> Counter[tuple[str, ...]]:
        """Return the counts of a name by the values of its labels, to be added to; the same ones for the same name.

        Told as `name` with `_total`. Values are few and known: an id or a path as a label would grow without end.
        """
        return self._counters.setdefault(name, (meaning, labels, Counter()))[2]

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Have `value` asked for each time the metrics are."""
        self._gauges.append((name, meaning, value))

    def text(self) -> tuple[bytes, str]:
        """Return all of it, and the media type."""
        from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        registry.register(_Families(self._families))
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def _families(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, (meaning, labels, counts) in list(self._counters.items()):
            family = CounterMetricFamily(name, meaning, labels=labels)
            for values, count in list(counts.items()):
                family.add_metric(values, count)
            yield family
        durations = HistogramMetricFamily(
            "caesarion_request_duration_seconds", "Time from the request to the end of its answer.", labels=["route"]
        )
        for route, in_buckets in self._durations.items():
            limits = [*map(str, BUCKETS_S), "+Inf"]
            durations.add_metric(
                [route], list(zip(limits, accumulate(in_buckets), strict=True)), self._duration_sums[route]
            )
        yield durations
        yield CounterMetricFamily("caesarion_uploaded_bytes", "Bytes of files taken in.", value=self.uploaded_bytes)
        for name, meaning, value in self._gauges:
            yield GaugeMetricFamily(name, meaning, value=value())


class _Families:
    """What the client library calls a collector."""

    def __init__(self, families: Callable[[], Iterable[Any]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        return self._families()
