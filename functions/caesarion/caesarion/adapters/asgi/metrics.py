"""Counts of a function, told in Prometheus' text form. The client library is imported when somebody asks for them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

Values = tuple[str, ...]


class Durations:
    """How long something took, in buckets, by the values of its labels: few and known ones."""

    def __init__(self, labels: Values) -> None:
        self.labels = labels
        self._buckets: dict[Values, list[int]] = {}
        self._sums: dict[Values, float] = {}

    def add(self, duration_s: float, *values: str) -> None:
        """Take one."""
        buckets = self._buckets.setdefault(values, [0] * (len(BUCKETS_S) + 1))
        buckets[bisect_left(BUCKETS_S, duration_s)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + duration_s

    def told(self) -> Iterator[tuple[Values, list[tuple[str, int]], float]]:
        """Yield the values of the labels, how many took at most so long, and the sum of all."""
        limits = [*map(str, BUCKETS_S), "+Inf"]
        for values, in_buckets in list(self._buckets.items()):
            yield values, list(zip(limits, accumulate(in_buckets), strict=True)), self._sums[values]


class Metrics:
    """What one function counts about itself."""

    def __init__(self) -> None:
        self.requests_in_flight = 0
        self.uploaded_bytes = 0
        self._counters: dict[str, tuple[str, Values, Counter[Values]]] = {}
        self._durations: dict[str, tuple[str, Durations]] = {}
        self._requests = self.counter("caesarion_requests", "Requests answered.", "method", "route", "status")
        self._request_durations = self.durations(
            "caesarion_request_duration_seconds", "Time from the request to the end of its answer.", "route"
        )
        self._gauges: list[tuple[str, str, str, Callable[[], Mapping[str, float]]]] = []
        self.gauge("caesarion_requests_in_flight", "Requests being answered.", lambda: self.requests_in_flight)

    def count_request(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count an answered request."""
        self._requests[(method if method in KNOWN_METHODS else "other", route, str(status))] += 1
        self._request_durations.add(duration_s, route)

    def counter(self, name: str, meaning: str, *labels: str) -> Counter[Values]:
        """Return the counts of a name by the values of its labels, to be added to; the same ones for the same name.

        Told as `name` with `_total`. Values are few and known: an id or a path as a label would grow without end.
        """
        return self._counters.setdefault(name, (meaning, labels, Counter()))[2]

    def durations(self, name: str, meaning: str, *labels: str) -> Durations:
        """Return the durations of a name, to be added to; the same ones for the same name."""
        return self._durations.setdefault(name, (meaning, Durations(labels)))[1]

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Have `value` asked for each time the metrics are."""
        self.gauges(name, meaning, "", lambda: {"": value()})

    def gauges(self, name: str, meaning: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        """Have `values`, by the values of one label, asked for each time the metrics are."""
        self._gauges.append((name, meaning, label, values))

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
        for name, (meaning, durations) in list(self._durations.items()):
            histogram = HistogramMetricFamily(name, meaning, labels=durations.labels)
            for values, buckets, sum_s in durations.told():
                histogram.add_metric(values, buckets, sum_s)
            yield histogram
        yield CounterMetricFamily("caesarion_uploaded_bytes", "Bytes of files taken in.", value=self.uploaded_bytes)
        for name, meaning, label, told in self._gauges:
            gauge = GaugeMetricFamily(name, meaning, labels=[label] if label else [])
            for value, number in told().items():
                gauge.add_metric([value] if label else [], number)
            yield gauge


class _Families:
    """What the client library calls a collector."""

    def __init__(self, families: Callable[[], Iterable[Any]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        return self._families()
