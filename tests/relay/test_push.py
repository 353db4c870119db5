"""Push relays: what they send, when they begin, what they do in trouble, and how they end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import EventType, PushTarget
from rapidrtmp.names import StreamName
from rapidrtmp.relay.push import KeyClaims, PushParts, PushSink
from rapidrtmp.relay.report import RelayMetrics, RelayState, RelayStatus
from rapidrtmp.rtmp.events import AudioReceived, ConnectRequested, PublishRequested, VideoReceived
from rapidrtmp.rtmp.replies import write_reconnect_request
from rapidrtmp.rtmp.via import VIA
from rapidrtmp.support.secret import Secret
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import make_sink_context
from tests.relay.servers import Network, RemoteServer, Script

NAME = StreamName("live", "cam")


class PushTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.clock = self.network.clock
        self.network.servers["one"] = Script()
        self.events: list[Mapping[str, Any]] = []
        self.advice: dict[str, str] = {}
        self.registry = CollectorRegistry()
        self.metrics = RelayMetrics(self.registry)
        self.claims = KeyClaims()
        self.via: tuple[str, ...] = ()
        self.source = FrameSource(make_video_track(), make_audio_track(id=2))
        self.fed_ms = 0
        self.addCleanup(self.finish)
        self.sinks: list[PushSink] = []

    def finish(self) -> None:
        """End every relay; afterwards no timer may be left."""
        for sink in self.sinks:
            sink.finish()
        self.clock.advance(3)
        self.assertEqual([], self.clock.getDelayedCalls())

    def relay(
        self, url: str = "rtmp://one/app", key: str = "abcd-efgh-6789", name: StreamName = NAME, **more: Any
    ) -> PushSink:
        target = PushTarget(url, Secret(key), **more)

        def record(type: EventType, stream: StreamName | None, peer: str, data: Mapping[str, Any]) -> None:
            self.events.append(data)

        self.status = RelayStatus(
            "push-1",
            "push",
            name,
            "rtmp://one/app",
            clock=self.clock,
            utc_ms=lambda: int(self.clock.seconds() * 1000),
            record=record,  # type: ignore[arg-type]
            metrics=self.metrics,
        )
        parts = PushParts(self.network.outgoing, self.claims, "me", lambda _name: self.via, lambda: 0.5)
        context = replace(make_sink_context(stream=name, clock=self.clock), advise=self.advice.__setitem__)
        sink = PushSink(target, self.status, context, parts)
        self.sinks.append(sink)
        return sink

    def begin(self, **more: Any) -> PushSink:
        """A relay whose stream has begun."""
        sink = self.relay(**more)
        sink.tracks_changed(self.source.tracks)
        self.network.carry()
        return sink

    def feed(self, sink: PushSink, gops: int = 1) -> None:
        """Let the stream run in real time, GOPs of two seconds."""
        for frame in self.source.take(gops):
            late_ms = frame.dts * 1000 // frame.track.timescale - self.fed_ms
            if late_ms > 100:
                self.fed_ms += late_ms
                self.clock.advance(late_ms / 1000)
                self.network.carry()
            sink.frame_received(frame)
        self.network.carry()

    @property
    def server(self) -> RemoteServer:
        return self.network.connections[-1]

    @property
    def states(self) -> list[str]:
        return [f"{each['state']}: {each['reason']}" if each["reason"] else each["state"] for each in self.events]


class PublishingTests(PushTestCase):
    def test_stream_arrives_from_a_keyframe_on(self) -> None:
        """A stream is described, configured, and then sent from a keyframe on, with times from zero on."""
        sink = self.begin()
        self.feed(sink)
        media = self.server.media
        self.assertTrue(media[0].payload.startswith(b"\x17\x00"))  # a configuration of H.264
        self.assertTrue(media[1].payload.startswith(b"\xaf\x00"))  # of AAC
        first = next(each for each in media if each.payload.startswith((b"\x17\x01", b"\x27\x01")))
        self.assertTrue(first.payload.startswith(b"\x17\x01"))
        self.assertEqual(0, first.timestamp)
        self.assertEqual(1 + 60, len(self.server.of(VideoReceived)))
        metadata = self.server.metadata[0]
        self.assertEqual(
            (1280.0, 720.0, 7.0, 10.0),
            tuple(metadata[each] for each in ("width", "height", "videocodecid", "audiocodecid")),
        )
        self.assertEqual(["running"], self.states)

    def test_times_of_a_late_connection_begin_at_zero(self) -> None:
        """A connection that is made in the middle of a stream begins near zero as well, at the newest keyframe."""
        self.network.servers["one"] = None
        sink = self.begin()
        self.feed(sink, 3)
        self.network.servers["one"] = Script()
        self.feed(sink, 2)
        frames = [each for each in self.server.media if each.payload[1:2] == b"\x01"]
        self.assertTrue(frames[0].payload.startswith(b"\x17\x01"))
        self.assertEqual(0, frames[0].timestamp)
        self.assertEqual(
            sorted(each.timestamp for each in frames if each.payload[:1] != b"\xaf"),
            [each.timestamp for each in frames if each.payload[:1] != b"\xaf"],
        )

    def test_two_tracks_only_begin_together(self) -> None:
        """No audio is sent that lies before the first picture."""
        sink = self.begin()
        self.feed(sink)
        self.assertGreaterEqual(min(each.timestamp for each in self.server.of(AudioReceived)), 0)
        self.assertLess(max(each.timestamp for each in self.server.of(AudioReceived)), 2_100)

    def test_connect_names_the_servers_behind(self) -> None:
        """The servers that the stream has come through are named, and this one behind them."""
        self.via = ("first", "second")
        sink = self.begin()
        self.feed(sink)
        self.assertEqual("first,second,me", self.server.of(ConnectRequested)[0].properties[VIA])
        self.assertEqual("first,second,me", self.server.metadata[0][VIA])

    def test_interruption_keeps_the_connection(self) -> None:
        """While the publisher is gone nothing is said, and its return continues on the same connection."""
        sink = self.begin()
        self.feed(sink)
        sink.interrupted()
        self.clock.advance(20)
        self.network.carry()
        seen = len(self.server.seen)
        self.assertFalse(self.server.has_ended)
        sink.discontinuity()
        sink.tracks_changed(self.source.tracks)
        self.feed(sink)
        self.assertEqual(1, len(self.network.connections))
        self.assertGreater(len(self.server.seen), seen + 60)

    def test_other_size_is_announced(self) -> None:
        """A configuration that changes is sent in front of its keyframe, on the same connection."""
        sink = self.begin()
        self.feed(sink)
        sink.discontinuity()
        video = make_video_track(640, 360)
        self.source = FrameSource(video, make_audio_track(id=2))
        sink.tracks_changed(self.source.tracks)
        for frame in self.source.take():
            sink.frame_received(replace(frame, dts=frame.dts + 2 * frame.track.timescale))
        self.network.carry()
        self.assertEqual([1280.0, 640.0], [each["width"] for each in self.server.metadata])
        configs = [each for each in self.server.of(VideoReceived) if each.payload.startswith(b"\x17\x00")]
        self.assertEqual(2, len(configs))

    def test_end_is_said(self) -> None:
        """The end of the stream is said to the other server before the connection is closed."""
        sink = self.begin()
        self.feed(sink)
        sink.finish()
        self.network.carry()
        self.assertTrue(self.server.has_ended)
        self.assertEqual("closed", self.server.transport.closed)
        self.assertEqual(["running", "waiting"], self.states)

    def test_codec_that_is_not_taken_is_named(self) -> None:
        """A server that says what it takes, and not this codec, refuses in our words."""
        self.network.servers["one"] = Script(properties={"fourCcList": ["avc1"]})
        video = replace(make_video_track(), codec="hvc1")
        self.source.tracks = (video, self.source.tracks[1])
        self.begin()
        self.assertEqual(["refused: it takes no HEVC"], self.states)


class TroubleTests(PushTestCase):
    def test_server_that_is_down_is_tried_again(self) -> None:
        """A server that is down is one event, and is tried with growing pauses until it is up."""
        del self.network.servers["one"]
        sink = self.begin()
        self.feed(sink, 4)
        self.assertEqual(4, len(self.network.asked))  # at 0, 1, 3 and 7 s
        self.assertEqual(1, len(self.states))
        self.assertIn("retrying: no connection", self.states[0])
        self.network.servers["one"] = Script()
        self.feed(sink, 5)
        self.assertEqual("running", self.states[-1])
        self.assertEqual(0, self.status.reconnects)

    def test_lost_connection_is_made_again(self) -> None:
        """A server that resets is reached again, and counted; the reason is an event."""
        sink = self.begin()
        self.feed(sink)
        self.server.drop()
        self.feed(sink, 2)
        self.assertEqual(["running", "retrying: it closed the connection", "running"], self.states)
        self.assertEqual((2, 1), (len(self.network.connections), self.status.reconnects))
        self.assertTrue(self.server.of(VideoReceived)[0].payload.startswith(b"\x17\x00"))

    def test_refusal_is_one_event(self) -> None:
        """A server that refuses is asked once a minute, and that is one event."""
        self.network.servers["one"] = Script(publish=("NetStream.Publish.Denied", "no such key"))
        sink = self.begin()
        self.feed(sink, 62)
        self.assertEqual(["refused: NetStream.Publish.Denied no such key"], self.states)
        self.assertEqual(3, len(self.network.connections))
        self.assertEqual(
            3,
            self.registry.get_sample_value("rapidrtmp_relay_failures_total", {"direction": "push", "kind": "refused"}),
        )

    def test_name_in_use_is_asked_for_soon(self) -> None:
        """A server that has not missed our last session is asked again after ten seconds."""
        self.network.servers["one"] = Script(publish=("NetStream.Publish.BadName", "already publishing"))
        sink = self.begin()
        self.feed(sink, 4)
        self.network.servers["one"] = Script()
        self.feed(sink, 2)
        self.assertEqual("running", self.states[-1])

    def test_moving_server_is_followed_at_once(self) -> None:
        """A server that asks for another connection gets it at once, where it says."""
        self.network.servers["two"] = Script()
        sink = self.begin()
        self.feed(sink)
        self.server.session._outbox.send_status(0, write_reconnect_request("moving", "rtmp://two/app"))
        self.feed(sink)
        self.assertEqual("two", self.server.address.host)
        self.assertEqual("abcd-efgh-6789", self.server.of(PublishRequested)[0].key)
        self.assertEqual("running", self.states[-1])

    def test_slow_way_drops_whole_gops(self) -> None:
        """Behind a slow way pictures are left out up to a keyframe, counted, and reported to the encoder."""
        sink = self.begin()
        self.feed(sink)
        self.server.client.pauseProducing()
        self.feed(sink, 4)
        self.assertGreater(self.registry.get_sample_value("rapidrtmp_relay_dropped_frames_total") or 0, 100)
        self.assertIn("leaves out pictures", self.advice["relay push-1"])
        before = len(self.server.media)
        self.server.client.resumeProducing()
        self.network.carry()
        self.feed(sink)
        after = self.server.media[before:]
        self.assertTrue(after[0].payload.startswith(b"\x17\x01"))

    def test_way_that_stays_slow_is_given_up(self) -> None:
        """After fifteen seconds behind a connection is given up, with the rates, and made anew."""
        sink = self.begin()
        self.feed(sink)
        self.server.client.pauseProducing()
        self.feed(sink, 9)
        self.assertIn("the way is too slow: 0 of ", self.states[1])
        self.assertEqual("running", self.states[-1])
        self.assertEqual("aborted", self.network.connections[0].transport.closed)

    def test_key_carries_one_stream(self) -> None:
        """A second stream with the same key is an error of its relay, until the first one has ended."""
        first = self.begin()
        second = self.relay(name=StreamName("live", "other"))
        second.tracks_changed(self.source.tracks)
        self.assertEqual(
            ["running", "failed: its key is used by live/cam already: a key carries one stream"],
            ["running", *self.states[-1:]],
        )
        self.assertEqual(1, len(self.network.connections))
        first.finish()
        self.network.wait(10)
        self.assertEqual(2, len(self.network.connections))
        self.assertIs(RelayState.RUNNING, self.status.state)

    def test_name_of_the_stream_is_its_key(self) -> None:
        """Streams that are called by their own names there may share a target."""
        self.begin(key="{key}")
        second = self.relay(name=StreamName("live", "other"), key="{key}")
        second.tracks_changed(self.source.tracks)
        self.network.carry()
        self.assertEqual(["cam", "other"], [each.of(PublishRequested)[0].key for each in self.network.connections])

    def test_key_file_is_read_each_time(self) -> None:
        """A key may stand in a file; one that is not there is an error of the relay until it is."""
        path = self.mktemp()
        self.begin(key="", key_file=path)
        self.assertIn("cannot be read", self.states[-1])
        with open(path, "w") as file:
            file.write("from-a-file\n")
        self.network.wait(10)
        self.assertEqual("from-a-file", self.server.of(PublishRequested)[0].key)

    def test_long_gops_are_warned_of(self) -> None:
        """Keyframes that come too rarely for most platforms are said to the encoder."""
        self.source = FrameSource(make_video_track(), make_audio_track(id=2), gop=180)
        sink = self.begin()
        self.feed(sink, 4)
        self.assertIn("Keyframes come every 6 s", self.advice["relay push-1"])

    def test_key_is_nowhere_to_be_seen(self) -> None:
        """The key is in no event, and in no representation of what carries it."""
        sink = self.begin()
        self.feed(sink)
        self.server.drop()
        said = f"{self.events} {self.status.describe()} {sink._target} {sink._address} {vars(self.status)}"
        self.assertNotIn("efgh", said)
