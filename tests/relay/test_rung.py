"""A rung of a ladder that is pushed instead of the source."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.reader import read_init_segment
from rapidrtmp.interfaces import PushTarget
from rapidrtmp.names import StreamName
from rapidrtmp.relay.push import KeyClaims, PushParts, PushSink
from rapidrtmp.relay.report import RelayMetrics, RelayState, RelayStatus
from rapidrtmp.relay.rung import RungPush
from rapidrtmp.rtmp.events import AudioReceived, VideoReceived
from rapidrtmp.support.secret import Secret
from rapidrtmp.testing.frames import audio_frames, make_audio_track
from rapidrtmp.testing.sinks import make_sink_context
from tests.relay.servers import Network, Script
from tests.slow import slow
from tests.transcode.test_ladder import AUDIO, VIDEO, LadderedStream, frames_of

NAME = StreamName("live", "cam")


@slow
class RungTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = LadderedStream()
        self.network = Network(self.stream.clock)
        self.network.servers["one"] = Script()
        self.sinks: list[Any] = [self.stream.hls]
        self.stream.ladder._sinks = lambda: self.sinks

    def attach(self, rendition: str) -> RungPush:
        """A relay of a rendition."""
        status = self.status = RelayStatus(
            "push-1",
            "push",
            NAME,
            "rtmp://one/app",
            clock=self.stream.clock,
            utc_ms=lambda: 0,
            record=lambda *_: None,
            metrics=RelayMetrics(CollectorRegistry()),
        )
        parts = PushParts(self.network.outgoing, KeyClaims(), "me")
        context = make_sink_context(stream=NAME, clock=self.stream.clock)
        push = PushSink(PushTarget("rtmp://one/app", Secret("key-0123456789")), status, context, parts)
        sink = RungPush(rendition, push, status)
        self.sinks.append(sink)
        self.stream.packager.attach(sink)
        return sink

    def feed(self, seconds: float) -> None:
        for frame in self.frames[: round(seconds * 77)]:
            self.stream.feed([frame])
            self.network.carry()
        del self.frames[: round(seconds * 77)]

    def begin(self) -> None:
        self.frames = frames_of(20)
        self.stream.range(VIDEO, AUDIO, frames=[])

    def test_rung_is_pushed_with_the_audio(self) -> None:
        """What arrives is the rung's picture, from a keyframe on, with the audio of the source."""
        sink = self.attach("480p")
        self.begin()
        self.feed(8)
        (server,) = self.network.connections
        self.assertEqual(480.0, server.metadata[0]["height"])
        pictures = [each for each in server.of(VideoReceived) if each.payload[1:2] == b"\x01"]
        self.assertTrue(pictures[0].payload.startswith(b"\x17\x01"))
        self.assertEqual(sorted(each.timestamp for each in pictures), [each.timestamp for each in pictures])
        self.assertGreater(len(pictures), 90)
        self.assertGreater(len(server.of(AudioReceived)), 140)
        sink.finish()
        self.network.carry()
        self.assertTrue(server.has_ended)

    def test_several_audio_tracks_in_the_source(self) -> None:
        """A rung of a stream with several audio tracks is pushed with the first of them; players have them apart."""
        other = make_audio_track(id=4)
        sink = self.attach("480p")
        self.frames = sorted([*frames_of(20), *audio_frames(other, 20)], key=lambda frame: frame.arrived_ms)
        self.stream.range(VIDEO, AUDIO, other, frames=[])
        self.feed(12)
        (server,) = self.network.connections
        self.assertEqual(480.0, server.metadata[0]["height"])
        self.assertGreater(len(server.of(AudioReceived)), 140)
        master = self.stream.shelf.bodies["master.m3u8"].decode()
        self.assertIn('AUDIO="audio-mp4a"', master)
        for folder in ("480p/", "video-0/"):
            init = self.stream.shelf.latest(folder).segments[0].map_uri
            self.assertEqual(1, len(read_init_segment(self.stream.shelf.bodies[folder + init])), folder)
        sink.finish()

    def test_no_picture_is_shown_before_it_is_decoded(self) -> None:
        """A rung with B-frames of a source without them is decoded early enough: FLV's readers insist on that."""
        self.stream.transcoder.b_frames = 2
        sink = self.attach("480p")
        self.begin()
        self.feed(8)
        pictures = [each for each in self.network.connections[0].of(VideoReceived) if each.payload[1:2] == b"\x01"]
        offsets = [int.from_bytes(each.payload[2:5], "big", signed=True) for each in pictures]
        times = [each.timestamp for each in pictures]
        self.assertGreater(len(set(offsets)), 1)
        self.assertGreaterEqual(min(offsets), 0)
        self.assertEqual(sorted(times), times)
        sink.finish()

    def test_relay_that_comes_late_gets_its_rung(self) -> None:
        """A relay that is added in mid-stream begins with the rung's next segment."""
        self.begin()
        self.feed(6)
        sink = self.attach("480p")
        self.feed(8)
        self.assertIs(RelayState.RUNNING, self.status.state)
        self.assertEqual(480.0, self.network.connections[0].metadata[0]["height"])
        sink.finish()

    def test_rendition_that_is_not_there_is_named(self) -> None:
        """A rendition that the stream does not have is an error of the relay."""
        sink = self.attach("999p")
        self.begin()
        self.feed(9)
        self.assertIs(RelayState.FAILED, self.status.state)
        self.assertIn("'999p'", self.status.reason)
        self.assertEqual([], self.network.connections)
        sink.finish()
