"""What is read at a scrape: streams, connections, the storage queue, readiness."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import RungReport
from rapidrtmp.metrics import CallbackCollector
from rapidrtmp.server.scrape import connection_metrics, readiness_metrics, storage_metrics, stream_metrics
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.storage.store import Store
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.support.clock import now_ms
from rapidrtmp.web.readiness import Readiness
from tests.net.edge import NAME, Edge, media


class ScrapeTests(SynchronousTestCase):
    def scrape(self, read: Callable[[], Iterable[Metric]]) -> Callable[..., float | None]:
        """How to look up a sample of what ``read`` tells; a ``rapidrtmp_`` comes before each name."""
        registry = CollectorRegistry()
        registry.register(CallbackCollector(read))
        return lambda name, **labels: registry.get_sample_value(f"rapidrtmp_{name}", labels)

    def test_streams_by_state_and_viewers(self) -> None:
        """Streams by state, viewers, and totals that survive the streams; names only if wanted."""
        edge = Edge()
        self.addCleanup(edge.close)
        peer = edge.publisher()
        peer.say(*media(3))
        stream = edge.registry.find(NAME)
        assert stream is not None
        stream.viewers.saw("192.0.2.9", "player", "part", 0)
        sample = self.scrape(lambda: stream_metrics(edge.registry, now_ms(edge.clock), labelled=False))
        self.assertEqual((1, 0), (sample("active_streams", state="live"), sample("active_streams", state="ended")))
        self.assertEqual((1, 216, 3), (sample("viewers"), sample("frames_total"), sample("keyframes_total")))
        self.assertIsNone(sample("stream_viewers", stream="live/k"))
        edge.registry.end(stream)
        edge.wait(100)
        self.assertEqual((0, 216, 1), (sample("viewers"), sample("frames_total"), sample("streams_ended_total")))
        self.assertEqual(stream.statistics.byte_count, sample("media_bytes_total"))

    def test_labelled_streams_have_their_numbers(self) -> None:
        """With labels each stream tells its viewers and bitrate."""
        edge = Edge()
        self.addCleanup(edge.close)
        edge.publisher().say(*media(3))
        edge.wait(1)
        sample = self.scrape(lambda: stream_metrics(edge.registry, now_ms(edge.clock), labelled=True))
        self.assertEqual(0, sample("stream_viewers", stream="live/k"))
        self.assertGreater(sample("stream_bits_per_second", stream="live/k") or 0, 0)

    def test_rungs_by_their_names(self) -> None:
        """The rungs of all streams are counted by their names: states, pictures, and the longest lag."""
        edge = Edge()
        self.addCleanup(edge.close)
        edge.publisher().say(*media(1))
        stream = edge.registry.find(NAME)
        assert stream is not None
        report = RungReport("720p", "running", "avc1.64001f", 1280, 720, 3_000_000, 90, 120, 0, 0)
        stream.rungs = lambda: [report, replace(report, name="480p", state="off", frames=7, lag_ms=0)]
        sample = self.scrape(lambda: stream_metrics(edge.registry, now_ms(edge.clock), labelled=False))
        self.assertEqual(1, sample("ladder_rungs", rung="720p", state="running"))
        self.assertEqual(1, sample("ladder_rungs", rung="480p", state="off"))
        self.assertEqual(
            (90, 7), (sample("ladder_rung_frames", rung="720p"), sample("ladder_rung_frames", rung="480p"))
        )
        self.assertEqual(0.12, sample("ladder_rung_lag_seconds", rung="720p"))

    def test_connections_open_and_total(self) -> None:
        """Connections that are open, and what came in over all there ever were."""
        edge = Edge()
        self.addCleanup(edge.close)
        peers = [edge.peer() for _ in range(3)]
        peers[0].say(b"\x03" * 7)
        peers[0].leave()
        sample = self.scrape(lambda: connection_metrics(edge.factory))
        self.assertEqual((2, 7), (sample("rtmp_connections"), sample("rtmp_received_bytes_total")))

    def test_storage_written_and_waiting(self) -> None:
        """What the queues have written, and what waits in them."""
        clock = Clock()
        stores = [Store(name, storage := MemoryStorage(), WriteBehind(storage, clock)) for name in ("one", "other")]
        sample = self.scrape(lambda: storage_metrics(stores))
        for store, data in zip(stores, (b"123", b"4567"), strict=True):
            self.successResultOf(store.writer.put("a", [data], "text/plain"))
        for name, size in (("one", 3), ("other", 4)):
            self.assertEqual(1, sample("storage_written_total", storage=name))
            self.assertEqual(size, sample("storage_written_bytes_total", storage=name))
            self.assertEqual(0, sample("storage_pending_objects", storage=name))
            self.assertEqual(0, sample("storage_lost_total", storage=name))

    def test_readiness_as_zero_or_one(self) -> None:
        """Each check as a yes or a no."""
        readiness = Readiness(Clock())
        sample = self.scrape(lambda: readiness_metrics(readiness))
        self.assertEqual((0, 1), (sample("ready", check="listening"), sample("ready", check="draining")))
        self.assertEqual(0, sample("reactor_lag_seconds"))
