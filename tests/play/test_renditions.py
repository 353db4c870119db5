"""Players of a rung: to them it is what a stream is."""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.flv_capabilities import FIRST_TRACKS
from rapidrtmp.codec.flv_writing import VIDEO_TAG
from rapidrtmp.errors import NotFoundError
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import StreamName
from rapidrtmp.play.follower import PullFollower
from rapidrtmp.play.formats import Tags
from rapidrtmp.play.players import Players
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.play.rendering import RenderingKey
from rapidrtmp.play.selection import Selection
from rapidrtmp.testing.frames import audio_frames, interleaved, make_audio_track, make_video_track, video_frames
from tests.play.stage import FeedCase
from tests.slow import slow
from tests.transcode.test_ladder import AUDIO, VIDEO, LadderedStream, frames_of

NAME = StreamName("live", "cam")


class Streams:
    """One stream with a ladder, as a registry has it."""

    def __init__(self) -> None:
        self.laddered = LadderedStream()
        self.sinks: dict[str, Any] = {}
        ladder = self.laddered.ladder
        ladder._sinks = lambda: [self.laddered.hls, *self.sinks.values()]
        self.rungs = lambda: ladder.reports
        self.tracks_of_rung = ladder.tracks_of
        self.tracks = (VIDEO, AUDIO)
        self.has_ended = False

    def find(self, name: StreamName) -> Any:
        return self if name == NAME else None

    def attach(self, name: str, sink: Any, *, with_past: bool = False) -> None:
        self.sinks[name] = sink
        self.laddered.packager.attach(sink)

    def has_sink(self, name: str) -> bool:
        return name in self.sinks

    def detach(self, name: str) -> None:
        sink = self.sinks.pop(name)
        self.laddered.packager.remove(sink)
        sink.finish()


class RenditionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = Streams()
        self.players = Players(self.stream, self.stream.laddered.clock)
        self.frames = frames_of(20)
        self.stream.laddered.range(VIDEO, AUDIO, frames=[])
        self.feed(6)

    def feed(self, seconds: float) -> None:
        count = round(seconds * 77)
        self.stream.laddered.feed(self.frames[:count])
        del self.frames[:count]

    def join(self, name: str) -> tuple[Any, PullFollower]:
        """A player of a rung, over HTTP."""
        found = self.successResultOf(self.players.find(NAME, {"rendition": name}))
        follower = PullFollower(self.stream.laddered.clock, PlayPolicy())
        place = self.players.join(found, "http", follower)
        follower.follow(place.choose(RenderingKey(Tags(), FIRST_TRACKS, Selection())))
        return place, follower

    def take(self, follower: PullFollower) -> bytes:
        from twisted.internet.defer import Deferred

        taken = b""
        while True:
            coming = Deferred.fromCoroutine(follower.next())
            if not coming.called:
                coming.cancel()
                self.failureResultOf(coming)
                return taken
            taken += self.successResultOf(coming)

    @slow
    def test_player_gets_the_rung(self) -> None:
        """What a player of a rung gets begins with a keyframe, and is as tall as the rung."""
        place, follower = self.join("480p")
        self.feed(6)
        taken = self.take(follower)
        self.assertIn(b"height\x00" + b"\x40\x7e", taken)  # 480 as a double
        self.assertTrue(taken.startswith(b"FLV"))
        self.assertIn(bytes([VIDEO_TAG]), taken)
        self.assertEqual({"rtmp": 0, "http": 1, "websocket": 0}, dict(self.players.count(self.stream)))
        place.leave()
        self.assertEqual({}, self.stream.sinks)

    def test_rung_is_rendered_once(self) -> None:
        """Players of the same rung share what feeds them; it ends with the last of them."""
        first, _ = self.join("480p")
        second, _ = self.join("480p")
        other, _ = self.join("360p")
        self.assertEqual({"play:480p", "play:360p"}, self.stream.sinks.keys())
        first.leave()
        self.assertIn("play:480p", self.stream.sinks)
        second.leave()
        other.leave()
        self.assertEqual({}, self.stream.sinks)
        self.join("480p")

    def test_rung_that_is_not_there(self) -> None:
        """A rung that the stream does not have is refused at once."""
        self.failureResultOf(self.players.find(NAME, {"rendition": "999p"}), NotFoundError)


class SizeTests(FeedCase):
    """The publisher's own sizes."""

    def setUp(self) -> None:
        super().setUp()
        self.stream = LiveStream(NAME, Shelf(), Viewers(b""), started_at_ms=0)
        self.players = Players(self, self.clock)
        self.large, self.sound, self.small = make_video_track(), make_audio_track(), make_video_track(640, 360, id=3)
        self.stream.tracks_changed((self.large, self.sound, self.small))
        self.frames = interleaved(
            video_frames(self.large, 4, gop=30), audio_frames(self.sound, 4), video_frames(self.small, 4, gop=30)
        )
        self.publish(0.5)

    def find(self, name: StreamName) -> Any:
        return self.stream if name == NAME else None

    def publish(self, share: float) -> None:
        """So much of the frames come."""
        count = round(len(self.frames) * share)
        for frame in self.frames[:count]:
            self.stream.frame_received(frame)
        del self.frames[:count]
        self.turn()

    def play(self, name: str) -> tuple[Any, PullFollower]:
        found = self.successResultOf(self.players.find(NAME, {"rendition": name}))
        follower = PullFollower(self.clock, self.policy)
        place = self.players.join(found, "http", follower)
        follower.follow(place.choose(RenderingKey(Tags(), FIRST_TRACKS, Selection())))
        self.turn(0, 0)
        return place, follower

    def test_size_comes_with_the_audio(self) -> None:
        """A size is found by its name over HLS and by its height; what comes is that picture, and the audio."""
        for name in ("video-1", "360p"):
            _, follower = self.play(name)
            tags = self.tags(follower)
            self.assertIn(b"height\x00" + struct.pack(">d", 360), tags[0][2], name)
            self.assertEqual({8, 9}, {tag[0] for tag in tags[1:]})
        self.assertEqual(("play:video-1",), self.stream.fan_out.names)
        sizes = {frame.data for frame in self.frames if frame.track is self.small}
        self.publish(1)
        pictures = {tag[2][5:] for tag in self.tags(follower) if tag[0] == 9}
        self.assertEqual(sizes, pictures)

    def test_source_is_a_size_as_well(self) -> None:
        """So is the largest; the players of all of them are those of the stream, and nothing is left of them."""
        places = [self.play(name)[0] for name in ("video-0", "720p", "360p")]
        self.assertEqual(3, self.players.count(self.stream)["http"])
        for place in places:
            place.leave()
        self.assertEqual((), self.stream.fan_out.names)

    def test_size_that_is_not_there(self) -> None:
        """Other names are refused, those of audio among them."""
        for name in ("video-2", "1080p", "audio-0"):
            self.failureResultOf(self.players.find(NAME, {"rendition": name}), NotFoundError)

    def test_size_that_goes_ends_its_players(self) -> None:
        """Where the publisher sends the size no longer, its players are ended."""
        _, follower = self.play("360p")
        self.tags(follower)
        self.stream.tracks_changed((self.large, self.sound))
        self.assertIsNotNone(follower.ending)
        self.assertEqual((), self.stream.fan_out.names)
        self.failureResultOf(self.players.find(NAME, {"rendition": "360p"}), NotFoundError)
