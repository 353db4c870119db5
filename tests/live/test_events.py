"""What is recorded of a live stream, and of the storage that it is written to."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import EventType, Playlist
from rapidrtmp.live.health import Finding, FindingKind
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import StreamName
from rapidrtmp.storage.lanes import Job
from rapidrtmp.storage.loss_log import QUIET_S, LossLog
from rapidrtmp.testing.frames import make_audio_track, make_video_track

NAME = StreamName("live", "k")


def listing(last: int, parts: int = 0) -> Playlist:
    """A version of a playlist that begins with the segment 5."""
    return Playlist(
        body=b"",
        delta=None,
        last_sequence=last,
        open_parts=parts,
        last_segment_parts=0,
        target_ms=2000,
        part_target_ms=0,
        ended=False,
        first_sequence=5,
    )


class StreamEventTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.stream = LiveStream(
            NAME, Shelf(), Viewers(b"salt"), started_at_ms=0, record=lambda *event: self.events.append(event)
        )

    @property
    def types(self) -> list[str]:
        return [event[0].value for event in self.events]

    def test_viewers_begin_and_end(self) -> None:
        """A client that begins to watch is an event, once, and so is its end; its name there tells nothing of it."""
        viewers = self.stream.viewers
        for time_ms in (1_000, 2_000, 3_000):
            viewers.saw("192.0.2.1", "Player", "segment_1.m4s", time_ms)
        viewers.saw("192.0.2.2", "Player", "segment_1.m4s", 14_000)
        viewers.count(16_000)
        (play, _, stop) = self.events
        self.assertEqual(["play", "play", "stop"], self.types)
        self.assertEqual((NAME, "192.0.2.1"), play[1:3])
        self.assertEqual((NAME, ""), stop[1:3])
        self.assertEqual(play[3], stop[3])

    def test_first_segment_is_an_event(self) -> None:
        """The first playlist that lists a whole segment is an event; parts before it and what follows are none."""
        for last, parts in ((4, 1), (4, 3), (5, 0), (6, 2)):
            self.stream.shelf.put_playlist("index.m3u8", listing(last, parts))
        self.stream.shelf.put_playlist("other.m3u8", listing(9))
        self.assertEqual([(EventType.FIRST_SEGMENT, NAME, "", {"playlist": "index.m3u8"})], self.events)

    def test_tracks_are_described_whole(self) -> None:
        """What a stream consists of is described, whatever it is."""
        self.stream.tracks_changed((make_video_track(), make_audio_track()))
        (event,) = self.events
        video, audio = event[3]["tracks"]
        self.assertEqual(("video", 1280, 720), (video["kind"], video["width"], video["height"]))
        self.assertEqual(("audio", 48_000), (audio["kind"], audio["sampleRate"]))

    def test_health_changes_are_events(self) -> None:
        """Health is an event when something else is wrong than before, or nothing any more; another number is none."""
        jitter = Finding(FindingKind.JITTER, "by 120 ms")
        for findings in ((), (jitter,), (Finding(FindingKind.JITTER, "by 130 ms"),), ()):
            self.stream.findings = findings
        self.assertEqual(["attention", "good"], [event[3]["verdict"] for event in self.events])
        self.assertEqual([{"kind": "jitter", "advice": "by 120 ms"}], self.events[0][3]["findings"])

    def test_publisher_leaves_without_news(self) -> None:
        """That a publisher with a finding is gone is no news of its health."""
        self.stream.findings = (Finding(FindingKind.JITTER, "by 120 ms"),)
        self.stream.publisher_left()
        self.assertEqual(((), 1), (self.stream.findings, len(self.events)))


class StorageEventTests(SynchronousTestCase):
    def test_trouble_begins_and_ends(self) -> None:
        """A storage that loses what it is given is an event when that begins, and when it is over, with the extent."""
        clock, said = Clock(), list[Any]()
        log = LossLog(clock, Logger(), said.append)
        for number in range(3):
            log.add(Job(f"a/{number}", [b"x"], "", "", 1, 0.0), StorageError("no space left"))
        log.ease()
        clock.advance(QUIET_S)
        self.assertEqual({"state": "failing", "error": "no space left"}, said[0])
        self.assertEqual(("working", 3, 3), (said[1]["state"], said[1]["objectsLost"], said[1]["bytesLost"]))
        self.assertEqual(2, len(said))
