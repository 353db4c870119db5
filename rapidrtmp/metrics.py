"""
Every metric, with its unit, in one place.

What happens per frame or per request is counted in plain integers on the stream and the site, and read at a scrape
(``scrape.py``, ``web/request_metrics.py``); what happens per connection or per failure is a counter here.
Labels take few values: a stream's name is one only if the operator asks for it. Process and interpreter have the names
that all Prometheus clients give them, ``process_*`` and ``python_*``; no metric tells when it was made (``_created``).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from zope.interface import implementer

import twisted
from rapidrtmp import __version__, interfaces
from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces import IMetricsScope

__all__ = ["CallbackCollector", "Metrics", "SinkMetrics"]

M = TypeVar("M", Counter, Histogram)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The server's metrics; one object per server, so that tests do not share counts."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Info("rapidrtmp_build", "Which RapidRTMP runs, and on what", registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version(), "twisted": twisted.__version__})
        self._of_sinks: dict[str, Counter | Histogram] = {}

        self.rtmp_connections_total = self._counter("rtmp_connections_total", "RTMP connections accepted")
        self.rtmp_refused_total = self._counter(
            "rtmp_connections_refused_total", "RTMP connections closed by a limit before they spoke", "limit"
        )
        self.rtmp_evicted_total = self._counter(
            "rtmp_connections_evicted_total",
            "RTMP connections closed before they published, for others to come",
            "limit",
        )
        self.rtmp_unread_total = self._counter(
            "rtmp_connections_unread_total", "RTMP connections closed because the peer did not read our answers"
        )
        self.rtmp_protocol_errors_total = self._counter(
            "rtmp_protocol_errors_total", "RTMP connections closed because the peer broke the protocol"
        )
        self.rtmp_timeouts_total = self._counter("rtmp_timeouts_total", "RTMP connections closed for silence", "stage")
        self.rtmp_ignored_total = self._counter(
            "rtmp_ignored_total", "RTMP commands and messages skipped because they are unknown or unreadable", "what"
        )
        self.unaccepted_total = self._counter(
            "connections_unaccepted_total", "Connections that could not be accepted because no more files may be open"
        )
        self.proxy_headers_refused_total = self._counter(
            "proxy_headers_refused_total", "Connections from proxies closed for their PROXY header", "reason"
        )
        self.certificates_read_total = self._counter(
            "certificates_read_total", "Times the files of an encrypted door were read again", "result"
        )
        self.events_total = self._counter("events_total", "Events that were recorded", "type")
        self.publishes_total = self._counter("publishes_total", "Publish requests by what became of them", "result")
        self.plays_total = self._counter(
            "plays_total", "Requests to play over RTMP or FLV by what became of them", "result"
        )
        self.media_problems_total = self._counter("media_problems_total", "Media that was dropped or repaired", "kind")
        self.findings_total = self._counter(
            "findings_total", "Times something began to be wrong with a publish", "finding"
        )
        self.publishers_held_total = self._counter(
            "publishers_held_total", "Times a publisher was held back for sending faster than real time"
        )
        self.publishers_over_bitrate_total = self._counter(
            "publishers_over_bitrate_total", "Publishers closed because they exceeded their bit rate"
        )
        self.publishers_over_memory_total = self._counter(
            "publishers_over_memory_total", "Publishers closed because they exceeded live.max_stream_bytes"
        )
        self.sinks_detached_total = self._counter(
            "sinks_detached_total", "Sinks taken off a stream because they failed or were too slow", "sink"
        )
        self.sink_seconds_total = self._counter(
            "sink_seconds_total", "Time that sinks took of the reactor's thread, estimated from samples", "sink"
        )

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"rapidrtmp_{name}", documentation, labels, registry=self.registry)

    def sink(self, name: str) -> SinkMetrics:
        """The scope of one kind of sink."""
        return SinkMetrics(self, name)

    def of_sink(self, name: str, make: Callable[[str], Counter | Histogram]) -> Counter | Histogram:
        """A sink's own metric, made the first time it is asked for."""
        if name not in self._of_sinks:
            self._of_sinks[name] = make(f"rapidrtmp_{name}")
        return self._of_sinks[name]

    def collect_from(self, callback: Callable[[], Iterable[Metric]]) -> None:
        """Show what ``callback`` returns at each scrape as well."""
        self.registry.register(CallbackCollector(callback))

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)


class CallbackCollector(Collector):
    """Numbers that live elsewhere, read when they are scraped."""

    def __init__(self, callback: Callable[[], Iterable[Metric]]) -> None:
        self._callback = callback

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: registering must not run the callback."""
        return iter(())

    def collect(self) -> Iterable[Metric]:
        """Read the numbers."""
        return self._callback()


@implementer(IMetricsScope)
class SinkMetrics:
    """Metrics declared by one kind of sink, labelled with its name."""

    def __init__(self, metrics: Metrics, sink: str) -> None:
        self._metrics = metrics
        self._sink = sink

    def counter(self, name: str, documentation: str) -> interfaces.Counter:
        """See :meth:`IMetricsScope.counter <rapidrtmp.interfaces.IMetricsScope.counter>`."""
        metric = self._metrics.of_sink(
            name, lambda full: Counter(full, documentation, ["sink"], registry=self._metrics.registry)
        )
        return _of_type(Counter, metric, name).labels(self._sink)

    def histogram(self, name: str, documentation: str, buckets: Sequence[float]) -> interfaces.Histogram:
        """See :meth:`IMetricsScope.histogram <rapidrtmp.interfaces.IMetricsScope.histogram>`."""
        metric = self._metrics.of_sink(
            name,
            lambda full: Histogram(full, documentation, ["sink"], registry=self._metrics.registry, buckets=buckets),
        )
        return _of_type(Histogram, metric, name).labels(self._sink)


def _of_type(wanted: type[M], metric: Counter | Histogram, name: str) -> M:
    if not isinstance(metric, wanted):
        raise MisuseError(f"the metric {name} is a {type(metric).__name__} already, not a {wanted.__name__}")
    return metric
