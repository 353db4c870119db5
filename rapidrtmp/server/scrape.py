"""Metrics that are read rather than counted: what the streams, the connections and the storage queue know anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from rapidrtmp.cluster.node import ClusterNode
from rapidrtmp.live.health import FindingKind
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.net.factory import RtmpServerFactory
from rapidrtmp.storage.store import Store
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.web.readiness import Readiness

__all__ = [
    "connection_metrics",
    "lease_metrics",
    "node_metrics",
    "readiness_metrics",
    "storage_metrics",
    "stream_metrics",
]


def stream_metrics(registry: Registry, now_ms: int, *, labelled: bool) -> Iterator[Metric]:
    """
    What the streams do.

    :param labelled: whether also to tell viewers and bitrate of each stream under its name; the operator's choice, for
        names may be many and may be private.
    """
    streams = list(registry)
    states = _gauge("active_streams", "Streams by state", ["state"])
    for state in StreamState:
        states.add_metric([state.value], sum(stream.state is state for stream in streams))
    yield states
    findings = _gauge(
        "stream_findings", "Streams in which something is wrong with the publish, by finding", ["finding"]
    )
    for kind in FindingKind:
        concerned = sum(any(found.kind is kind for found in stream.findings) for stream in streams)
        findings.add_metric([kind.value], concerned)
    yield findings
    yield _gauge("viewers", "Viewers of all streams", value=sum(stream.viewers.count(now_ms) for stream in streams))
    totals = registry.totals()
    yield _counter("media_bytes_total", "Media bytes received in frames", totals.byte_count)
    yield _counter("frames_total", "Frames received", totals.frames)
    yield _counter("keyframes_total", "Video keyframes received", totals.keyframes)
    yield _counter("discontinuities_total", "Discontinuities of streams", totals.discontinuities)
    yield _counter("streams_ended_total", "Streams that ended", registry.ended)
    yield _counter("takeovers_total", "Silent publishers replaced by a reconnect", registry.takeovers)
    yield from _rungs(streams)
    if labelled:
        yield from _labelled(streams, now_ms)


def _rungs(streams: Sequence[LiveStream]) -> Iterable[Metric]:
    """What the rungs of ladders do, by the names that settings give them."""
    states = _gauge("ladder_rungs", "Rungs of the streams there are, by name and state", ["rung", "state"])
    frames = _gauge("ladder_rung_frames", "Pictures that the rungs of the streams there are have brought", ["rung"])
    lag = _gauge("ladder_rung_lag_seconds", "How late the newest picture was, of the latest of a name", ["rung"])
    reports = [report for stream in streams for report in stream.rungs()]
    for (name, state), count in sorted(Counter((report.name, report.state) for report in reports).items()):
        states.add_metric([name, state], count)
    for name in sorted({report.name for report in reports}):
        of_name = [report for report in reports if report.name == name]
        frames.add_metric([name], sum(report.frames for report in of_name))
        lag.add_metric([name], max(report.lag_ms for report in of_name) / 1000)
    return states, frames, lag


def _labelled(streams: Sequence[LiveStream], now_ms: int) -> Iterable[Metric]:
    viewers = _gauge("stream_viewers", "Viewers of one stream", ["stream"])
    bitrate = _gauge("stream_bits_per_second", "Bitrate of one stream over the last seconds", ["stream"])
    for stream in streams:
        viewers.add_metric([str(stream.name)], stream.viewers.count(now_ms))
        bitrate.add_metric([str(stream.name)], stream.statistics.bits_per_second(now_ms))
    return viewers, bitrate


def connection_metrics(factory: RtmpServerFactory) -> Iterator[Metric]:
    """What the RTMP door lets in."""
    yield _gauge("rtmp_connections", "RTMP connections open now", value=len(factory.connections))
    pending = len(factory.pending_connections)
    yield _gauge("rtmp_unauthorised_connections", "Those of them that do not publish", value=pending)
    yield _gauge("rtmp_delayed_connections", "Those of them that wait to be read", value=len(factory.read_budget))
    yield _counter("rtmp_received_bytes_total", "Bytes received over RTMP", factory.received_bytes)


def storage_metrics(stores: Sequence[Store]) -> Iterator[Metric]:
    """What the write-behind queue of each storage does; the label is the name of the setting that chose the storage."""

    def gauge(name: str, documentation: str, of: Callable[[WriteBehind], int]) -> Metric:
        return measured(_gauge(f"storage_{name}", documentation, ["storage"]), of)

    def counter(name: str, documentation: str, of: Callable[[WriteBehind], int]) -> Metric:
        return measured(_counter(f"storage_{name}", documentation, labels=["storage"]), of)

    def measured(family: GaugeMetricFamily | CounterMetricFamily, of: Callable[[WriteBehind], int]) -> Metric:
        for store in stores:
            family.add_metric([store.name], of(store.writer))
        return family

    yield gauge("pending_objects", "Objects waiting to be written", lambda writer: writer.pending_objects)
    yield gauge("pending_bytes", "Bytes waiting to be written", lambda writer: writer.pending_bytes)
    yield counter("written_total", "Objects written", lambda writer: writer.written_total)
    yield counter("written_bytes_total", "Bytes written", lambda writer: writer.written_bytes_total)
    yield counter("deleted_total", "Objects deleted", lambda writer: writer.deleted_total)
    yield counter("retries_total", "Attempts after a first one", lambda writer: writer.retried_total)
    yield counter("lost_total", "Objects lost", lambda writer: writer.lost_total)
    yield counter("lost_bytes_total", "Bytes lost", lambda writer: writer.lost_bytes_total)
    yield counter("undeleted_total", "Deletions given up", lambda writer: writer.undeleted_total)


def lease_metrics(stores: Sequence[Store]) -> Iterator[Metric]:
    """Which streams this server writes and other servers on the same storage may not; the label is as above."""
    held = _gauge("storage_leases", "Streams that this server alone may write", ["storage"])
    lost = _counter("storage_leases_lost_total", "Streams given up to another server", labels=["storage"])
    for store in stores:
        held.add_metric([store.name], len(store.leases))
        lost.add_metric([store.name], store.leases.lost_total)
    yield held
    yield lost


def readiness_metrics(readiness: Readiness) -> Iterator[Metric]:
    """The checks behind ``/ready``."""
    checks = _gauge("ready", "Readiness by check, 1 for yes", ["check"])
    for check in readiness.checks():
        checks.add_metric([check.name], check.ok)
    yield checks
    yield _gauge("reactor_lag_seconds", "How late the last timer ran", value=readiness.lag_ms / 1000)


def node_metrics(node: ClusterNode) -> Iterator[Metric]:
    """This process as one of several."""
    yield _gauge("followed_streams", "Streams of other processes that viewers of this one watch", value=node.followed)
    yield CounterMetricFamily("rapidrtmp_moved_streams", "Streams that came from another process", node.moves)
    yield CounterMetricFamily(
        "rapidrtmp_cluster_refused",
        "What others than nodes asked of the endpoint for nodes",
        node.refused,
    )


def _gauge(
    name: str, documentation: str, labels: Sequence[str] | None = None, value: float | None = None
) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"rapidrtmp_{name}", documentation, labels=labels, value=value)


def _counter(
    name: str, documentation: str, value: float | None = None, labels: Sequence[str] | None = None
) -> CounterMetricFamily:
    return CounterMetricFamily(f"rapidrtmp_{name}", documentation, labels=labels, value=value)
