"""
Tests of a live stream whose bucket is far away on a bad day: real client, real threads, real emulator, and between them
latency and all faults of networks at once, while the stream continues.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Event, Lock
from typing import Any
from unittest import SkipTest
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from rapidrtmp.archive.layout import ROOT
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import IStorageWriter, StorageContext
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.recording.sink import RecorderFactory
from rapidrtmp.storage.gcs import GcsStorageFactory
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingWriter, make_sink_context, packaged
from tests.slow import slow
from tests.storage.front import Fault, Front

try:
    from tests.storage.emulator import emulator_url
except ImportError as error:
    missing: str | None = f"needs google-cloud-storage and gcp-storage-emulator: {error}"
else:
    missing = None

#: How often a request suffers what, in percent; a write that is lost needs six in a row.
WEATHER: dict[Fault, int] = {500: 3, 503: 2, 429: 3, "reset": 3, "lost": 2, "truncated": 2}
PLAYLIST = "live/test/index.m3u8"


class Reader:
    """
    A client that reads the bucket, by plain HTTP and beside the server: after each change it looks whether all is there
    that the playlist and the journals name.

    :ivar looked: how many versions of them it has seen.
    :ivar broken: what was named and could not be read.
    """

    def __init__(self, prefix: str) -> None:
        self.looked: set[bytes] = set()
        self.broken: list[str] = []
        self._prefix = prefix
        self._lock = Lock()

    def look(self, _method: str, _path: str) -> None:
        """Look, whatever was changed."""
        with self._lock:
            listed = self.names()
            for key in listed:
                if key == PLAYLIST:
                    self._check(key, self._named_by_playlist)
                elif key.startswith(f"{ROOT}/") and key.endswith(".jsonl"):
                    self._check(key, self._named_by_journal)

    def names(self) -> list[str]:
        """The keys of all objects."""
        with urlopen(f"{emulator_url()}/storage/v1/b/bucket/o?prefix={quote(self._prefix, safe='')}") as answer:
            return [item["name"].removeprefix(f"{self._prefix}/") for item in json.load(answer).get("items", ())]

    def read(self, key: str) -> bytes | None:
        """An object; ``None`` if there is none."""
        name = quote(f"{self._prefix}/{key}", safe="")
        try:
            with urlopen(f"{emulator_url()}/storage/v1/b/bucket/o/{name}?alt=media") as answer:
                found: bytes = answer.read()
                return found
        except HTTPError:
            return None

    def _check(self, key: str, named_by: Callable[[str, bytes], Iterator[tuple[str, int]]]) -> None:
        body = self.read(key)
        if body is None:
            return
        self.looked.add(body)
        for name, size in named_by(key, body):
            data = self.read(name)
            if data is None or (size and len(data) != size):
                self.broken.append(f"{key} names {name}: {data and len(data)}")

    def _named_by_playlist(self, key: str, body: bytes) -> Iterator[tuple[str, int]]:
        folder = key.rpartition("/")[0]
        for segment in parse_media_playlist(body).segments:
            assert segment.init is not None
            yield f"{folder}/{segment.init.uri}", 0
            if not segment.gap:
                yield f"{folder}/{segment.uri}", 0

    def _named_by_journal(self, key: str, body: bytes) -> Iterator[tuple[str, int]]:
        folder = key.rpartition("/")[0]
        yield f"{folder}/init.mp4", 0
        for line in map(json.loads, body.splitlines()):
            for index, part in enumerate(line.get("parts", ())):
                if part["size"]:
                    yield f"{folder}/part_{line['number']:08d}_{index:03d}.m4s", part["size"]


@slow
class WeatherTests(TestCase):
    """One stream with packager and recorder."""

    timeout = 120

    def setUp(self) -> None:
        if missing:
            raise SkipTest(missing)
        self.front = Front(emulator_url())
        self.addCleanup(self.front.close)
        self.threads = ThreadPool(0, 8, "storage")
        self.threads.start()
        self.addCleanup(self.threads.stop)
        self.events: list[LogEvent] = []
        self.reader = Reader(self.id())

    def make_writer(self, max_bytes: int) -> WriteBehind:
        context = StorageContext(partial(deferToThreadPool, reactor, self.threads), reactor, Logger())
        factory = GcsStorageFactory("bucket", prefix=self.id(), project="any", endpoint=self.front.url)
        self.storage = factory.create(context)
        log = Logger(observer=self.events.append)
        return WriteBehind(self.storage, reactor, max_bytes=max_bytes, first_delay_s=0.05, max_delay_s=0.4, log=log)

    def make_sinks(self, shelf: Shelf, lane: Callable[[str], IStorageWriter]) -> list[Any]:
        return [
            packaged(factory.create(make_sink_context(shelf=shelf, storage=lane(name))))
            for name, factory in (("hls", HlsSinkFactory()), ("record", RecorderFactory(part="2s")))
        ]

    async def stream(self, writer: WriteBehind, gops: int, within_s: float) -> list[int]:
        """
        Send so many GOPs of two seconds, a frame in each turn of the reactor. Beside the stream runs another one whose
        storage is perfect: frame by frame, viewers must be shown the same.

        :returns: what waited in the queue after each frame, in bytes.
        """
        shelf, good_shelf = Shelf(), Shelf()
        sinks = self.make_sinks(shelf, writer.lane)
        every = [*sinks, *self.make_sinks(good_shelf, lambda name: RecordingWriter())]
        source = FrameSource(make_video_track(), make_audio_track(), gop=60)
        for sink in every:
            sink.tracks_changed(source.tracks)
        waiting = []
        frames = source.take(gops)
        for frame in frames:
            for sink in every:
                sink.frame_received(frame)
            self.assertEqual(self.shown(good_shelf), self.shown(shelf))
            waiting.append(writer.pending_bytes)
            await deferLater(reactor, within_s / len(frames))
        self.assertIn(b"#EXTINF", self.shown(shelf))
        for sink in every:
            sink.finish()
        return waiting

    def shown(self, shelf: Shelf) -> bytes:
        """What viewers are shown."""
        version = shelf.find_playlist("index.m3u8")
        return version.facts.body if version else b""

    def said(self, what: str) -> list[str]:
        return [text for text in map(formatEvent, self.events) if what in text]

    async def test_all_at_once(self) -> None:
        """
        While there is room in the queue nothing is lost; at no moment does the bucket name what it cannot give; and
        frames are published in the turn they come in.
        """
        chance = random.Random(5)
        self.front.delay_s = lambda: chance.uniform(0.05, 0.3)
        self.front.fault = lambda method, path: next(iter(self.weather(chance)), None)
        self.front.passed = self.reader.look
        writer = self.make_writer(max_bytes=64 << 20)
        await self.stream(writer, 15, within_s=5.0)
        self.assertTrue(await writer.drain(60.0))
        await self.storage.close()
        self.assertEqual([], self.reader.broken)
        self.assertGreater(len(self.reader.looked), 2)
        self.assertGreater(self.front.faults, 8)
        self.assertEqual((0, 0, 0), (writer.lost_total, writer.undeleted_total, writer.pending_bytes))
        self.assertEqual([], self.events)
        playlist = self.reader.read(PLAYLIST) or b""
        self.assertIn(b"#EXT-X-ENDLIST", playlist)
        self.assertNotIn(b"#EXT-X-GAP", playlist)
        self.assertIn(b'"finished"', self.entry())

    def weather(self, chance: random.Random) -> Sequence[Fault]:
        """What befalls one request."""
        return chance.choices((*WEATHER, None), (*WEATHER.values(), 100 - sum(WEATHER.values())))

    def entry(self) -> bytes:
        """What the catalogue says of the one recording."""
        (key,) = [name for name in self.reader.names() if name.startswith(f"{ROOT}/.catalogue/")]
        return self.reader.read(key) or b""

    async def test_too_far_away(self) -> None:
        """
        What comes faster than the bucket takes it is held up to the bytes allowed, and lost beyond: counted, said once
        when it begins and once when it is over, and never named.
        """
        is_near = Event()
        self.addCleanup(is_near.set)
        self.front.delay_s = lambda: 0.05 if is_near.wait(15.0) else 0.0
        self.front.passed = self.reader.look
        writer = self.make_writer(max_bytes=300_000)
        waiting = await self.stream(writer, 20, within_s=2.0)
        is_near.set()
        self.assertLessEqual(max(waiting), 300_000)
        self.assertGreater(max(waiting), 200_000)
        self.assertTrue(await writer.drain(60.0))
        await self.storage.close()
        self.assertEqual(0, writer.pending_bytes)
        self.assertEqual([], self.reader.broken)
        self.assertGreater(writer.lost_total, 10)
        self.assertEqual(1, len(self.said("storage writes fail")))
        over = self.said(f"{writer.lost_total} objects, {writer.lost_bytes_total} bytes lost")
        self.assertEqual((1, 2), (len(over), len(self.events)))
        self.assertIn(b"#EXT-X-GAP", self.reader.read(PLAYLIST) or b"")
