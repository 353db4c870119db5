"""Tests of writing into a bucket on a bad day: real client, real emulator, and between them what networks do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import StorageError
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import IMMUTABLE, StorageContext
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.storage.gcs import GcsStorage, GcsStorageFactory
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingMetrics, feed, make_sink_context, packaged
from rapidrtmp.testing.storage import read_all
from tests.slow import slow
from tests.storage.front import Fault, Front

try:
    from tests.storage.emulator import emulator_url
except ImportError as error:
    missing: str | None = f"needs google-cloud-storage and gcp-storage-emulator: {error}"
else:
    missing = None


class Case(SynchronousTestCase):
    """A storage behind a bad network, one behind a good one, and a queue before the first."""

    def setUp(self) -> None:
        if missing:
            raise SkipTest(missing)
        retry = patch("rapidrtmp.storage.bucket.READ_RETRY_S", 0.0)  # the client's own retries would sleep
        retry.start()
        self.addCleanup(retry.stop)
        self.front = Front(emulator_url())
        self.addCleanup(self.front.close)
        self.storage, self.truth = self.make_storage(self.front.url), self.make_storage(emulator_url())
        self.clock = Clock()
        self.events: list[LogEvent] = []
        self.writer = self.make_writer()

    def make_storage(self, url: str) -> GcsStorage:
        context = StorageContext(maybeDeferred, Clock(), Logger())
        return GcsStorageFactory("bucket", prefix=self.id(), project="any", endpoint=url).create(context)

    def make_writer(self, **settings: Any) -> WriteBehind:
        log = Logger(observer=self.events.append)
        return WriteBehind(self.storage, self.clock, random=lambda: 1.0, log=log, **settings)

    def suffer(self, *faults: Fault) -> None:
        """The next requests suffer these, one each, and then none."""
        left: Iterator[Fault] = iter(faults)
        self.front.fault = lambda method, path: next(left, None)

    def stored(self, key: str) -> bytes:
        return self.successResultOf(
            Deferred.fromCoroutine(read_all(self.successResultOf(self.truth.get(key))))  # type: ignore[arg-type]
        )

    def said(self) -> list[str]:
        return [formatEvent(event) for event in self.events]


class FaultTests(Case):
    """One fault at a time."""

    def put(self, data: bytes, cache_control: str) -> None:
        put = self.writer.put("a.m4s", [data], "", cache_control)
        self.clock.pump([0.5] * 8)
        self.successResultOf(put)
        self.assertEqual(data, self.stored("a.m4s"))

    @slow
    def test_passing_faults_are_survived(self) -> None:
        """Whatever happens to a write, even if it was done and only the answer was lost, it is done once in the end."""
        faults: tuple[Fault, ...] = (500, 503, 429, 408, "reset", "lost", "truncated", "garbled")
        for number, fault in enumerate(faults):
            self.suffer(fault)
            self.put(b"good %d" % number, "no-cache")
            self.assertEqual(number + 1, self.writer.retried_total, fault)
        for fault in faults:
            self.successResultOf(self.truth.delete("a.m4s"))
            self.suffer(fault)
            self.put(b"good", IMMUTABLE)
        self.assertEqual((0, 2 * len(faults)), (self.writer.lost_total, self.writer.written_total))

    def test_large_upload_begins_again(self) -> None:
        """An upload in pieces that is interrupted begins again, and ends whole."""
        self.suffer(None, "reset")
        self.put(b"good" * 2_500_000, IMMUTABLE)

    def test_credentials_refused_are_reported(self) -> None:
        """What Google refuses is lost at once, counted, and said with what to do; afterwards all is well again."""
        for status in (401, 403):
            self.suffer(*[status] * 4)  # the client may fetch another token, and ask again
            put = self.writer.put("a.m4s", [b"1234"], "", IMMUTABLE)
            self.failureResultOf(put, StorageError)
        self.assertEqual((2, 8), (self.writer.lost_total, self.writer.lost_bytes_total))
        self.assertEqual(1, sum("storage writes fail" in each for each in self.said()))
        self.suffer()
        self.put(b"after", IMMUTABLE)

    def test_reading_gives_no_other_bytes(self) -> None:
        """A read whose answer is cut off, or does not come, fails, and never gives other bytes."""
        self.put(b"x" * 1000, IMMUTABLE)
        for fault in ("truncated", "reset", 503):
            self.suffer(None, fault)
            stored = self.successResultOf(self.storage.get("a.m4s"))
            error = self.failureResultOf(Deferred.fromCoroutine(read_all(stored)), StorageError).value
            self.assertTrue(error.retryable, fault)


@slow
class BadDayTests(Case):
    """A stream whose storage fails again and again."""

    def stream(self, gops: int) -> int:
        """Send so many GOPs of two seconds through the packager; returns how many segments live viewers see."""
        metrics = RecordingMetrics()
        shelf = Shelf()
        storage = self.writer.lane("live/test/hls")
        context = make_sink_context(storage=storage, shelf=shelf, clock=self.clock, metrics=metrics)
        sink = packaged(HlsSinkFactory().create(context))
        source = FrameSource(make_video_track(), make_audio_track(), gop=60)
        sink.tracks_changed(source.tracks)
        for _ in range(gops):
            feed(sink, source.take(1))
            self.clock.pump([0.5] * 4)
            self.assert_playlist_can_be_played()
        sink.finish()
        version = shelf.find_playlist("index.m3u8")
        assert version is not None
        return version.facts.body.count(b"#EXTINF")

    def assert_playlist_can_be_played(self) -> None:
        """Everything that the stored playlist names is there, if there is one."""
        keys = {info.key for info in self.successResultOf(self.truth.list("live/test/"))}
        if "live/test/index.m3u8" in keys:
            lines = self.stored("live/test/index.m3u8").decode().splitlines()
            names = {line for line in lines if line and not line.startswith("#")}
            gaps = {lines[at + 2] for at, line in enumerate(lines) if line == "#EXT-X-GAP" and at + 2 < len(lines)}
            self.assertEqual(set(), {f"live/test/{name}" for name in names - gaps} - keys)

    def test_nothing_is_lost(self) -> None:
        """While there is room in the queue nothing is lost, and live viewers get what they get on a good day."""
        faults = cycle((None, None, 503, None, None, "reset", None, None, "lost", None, None, 429, None, "truncated"))
        self.front.fault = lambda method, path: next(faults)
        segments = self.stream(12)
        self.clock.pump([0.5] * 100)
        self.assertGreater(self.front.faults, 10)
        self.assertEqual([], self.said())
        self.assertEqual((0, 0, 0), (self.writer.lost_total, self.writer.pending_objects, self.writer.pending_bytes))
        self.assertIn(b"#EXT-X-ENDLIST", self.stored("live/test/index.m3u8"))
        self.assertNotIn(b"#EXT-X-GAP", self.stored("live/test/index.m3u8"))
        self.assert_playlist_can_be_played()
        self.assertEqual(self.stored("live/test/index.m3u8").count(b"#EXTINF"), segments)

    def test_beyond_the_room(self) -> None:
        """When nothing is taken, the queue stays within its bytes, losses are counted and logged, live continues."""
        self.writer = self.make_writer(max_bytes=100_000)
        self.front.fault = lambda method, path: 503
        segments = self.stream(20)
        self.assertEqual(10, segments)
        self.assertLessEqual(self.writer.pending_bytes, 100_000)
        self.assertGreater(self.writer.lost_total, 5)
        self.assertEqual(1, sum("storage writes fail" in each for each in self.said()))
