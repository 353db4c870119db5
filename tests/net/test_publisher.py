"""What a publisher is told, when it is held back, and when it has to go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.stream import StreamState
from rapidrtmp.net import publisher
from tests.codec.builders import picture, video_config
from tests.net.edge import NAME, Edge, Peer, media
from tests.rtmp.client import message


def pictures(times_ms: Iterable[int], gop: int) -> Iterator[tuple[int, bytes]]:
    """Video alone: a config, then a picture at each of these times, and a keyframe every ``gop`` of them."""
    yield 0, message(9, video_config(), timestamp=0)
    for number, time_ms in enumerate(times_ms):
        yield time_ms, message(9, picture(number % gop == 0, mark=number), timestamp=time_ms)


class PublisherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.close)

    def in_real_time(self, peer: Peer, timed: Iterable[tuple[int, bytes]]) -> None:
        """Send each message when it is due."""
        for due_ms, octets in timed:
            while self.edge.clock.seconds() * 1000 < due_ms:
                self.edge.clock.advance(0.02)
            peer.say(octets)

    def test_good(self) -> None:
        """A publisher that does well is told nothing, and the API shows numbers without findings."""
        peer = self.edge.publisher()
        self.in_real_time(peer, pictures(range(0, 12_000, 40), gop=50))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        assert stream.health is not None
        self.assertEqual(((), 2000), (stream.findings, stream.health.keyframe_interval_ms))
        self.assertEqual([], peer.statuses())

    def test_advice(self) -> None:
        """Keyframes that are far apart are found, counted, and the encoder is told, once, and continues."""
        peer = self.edge.publisher()
        self.in_real_time(peer, pictures(range(0, 30_000, 40), gop=200))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual(["long_keyframe_interval"], [finding.kind.value for finding in stream.findings])
        ((level, code, advice),) = peer.statuses()
        self.assertEqual(("warning", "NetStream.Publish.Advice"), (level, code))
        self.assertIn("8.0 s apart", advice)
        self.assertEqual(1, self.edge.metric("findings_total", finding="long_keyframe_interval"))
        self.assertFalse(peer.is_closed)
        peer.leave()
        self.assertEqual((), stream.findings)

    def test_unsupported_codec(self) -> None:
        """An encoder that sends a codec that is not carried is told so, once."""
        peer = self.edge.publisher()
        for _ in range(3):
            peer.say(message(9, b"\x90hvc1\1"))
        ((level, _, advice),) = peer.statuses()
        self.assertEqual("warning", level)
        self.assertEqual("The video codec HEVC (hvc1) is not carried here: publish H.264 and AAC.", advice)
        self.assertFalse(peer.is_closed)

    def test_leaves_at_keyframe(self) -> None:
        """Asked to leave it sends up to its next keyframe, is told why without being refused, and closed."""
        peer = self.edge.publisher()
        messages = list(pictures(range(0, 6_000, 40), gop=50))
        self.in_real_time(peer, messages[:76])
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        assert stream.publisher is not None
        stream.publisher.disconnect_at_keyframe("the server is shutting down", 2_000)
        self.in_real_time(peer, messages[76:])
        self.assertEqual([("error", "NetConnection.Connect.Closed", "the server is shutting down")], peer.statuses())
        self.assertTrue(peer.is_closed)
        self.assertIs(StreamState.INTERRUPTED, stream.state)
        self.assertEqual((100, 2), (stream.statistics.frames, stream.statistics.keyframes))

    def test_leaves_in_time(self) -> None:
        """One whose keyframe does not come is closed when the time is over; one without any media, at once."""
        peer = self.edge.publisher()
        messages = list(pictures(range(0, 3_000, 40), gop=1_000))
        self.in_real_time(peer, messages)
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        assert stream.publisher is not None
        stream.publisher.disconnect_at_keyframe("the server is shutting down", 1_000)
        self.edge.wait(0.7)
        self.assertFalse(peer.is_closed)
        self.edge.wait(0.6)
        self.assertTrue(peer.is_closed)
        self.setUp()
        silent = self.edge.publisher()
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        assert stream.publisher is not None
        stream.publisher.disconnect_at_keyframe("the server is shutting down", 1_000)
        self.assertTrue(silent.is_closed)

    def test_too_fast(self) -> None:
        """A file that is sent at once is not read any further until time has caught up, and is not taken for silent."""
        peer = self.edge.publisher()
        for _, octets in pictures(range(0, 20_000, 40), gop=50):
            peer.say(octets)
        self.edge.wait(0.5)
        self.assertEqual("paused", peer.transport.producerState)
        self.assertEqual(1, self.edge.metric("publishers_held_total"))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        assert stream.publisher is not None
        self.edge.wait(5)
        self.assertEqual(0, stream.publisher.silent_ms())
        self.edge.wait(8)
        self.assertEqual("producing", peer.transport.producerState)

    def test_bitrate(self) -> None:
        """A publisher that stays above the limit is told so, closed, counted, and named in one line of the log."""
        self.edge.close()
        self.edge = Edge(max_bitrate=1_000_000)
        peer = self.edge.publisher()
        filler = message(99, bytes(60_000))
        for _ in range(300):
            if peer.is_closed:
                break
            peer.say(filler)
            self.edge.clock.advance(0.25)  # 1.92 Mbit/s
        self.assertIn(("error", "NetStream.Publish.Denied"), [status[:2] for status in peer.statuses()])
        self.assertTrue(peer.is_closed)
        self.assertTrue(8 < self.edge.clock.seconds() < 16, self.edge.clock.seconds())
        self.assertEqual(1, self.edge.metric("publishers_over_bitrate_total"))

    def test_storm(self) -> None:
        """A clock that jumps again and again ends its publisher, which is told why; the stream stays for another."""
        peer = self.edge.publisher()
        now_ms = 0
        for turn in range(40):
            for number in range(10):
                if peer.is_closed:
                    break
                if turn == number == 0:
                    peer.say(message(9, video_config(), timestamp=0))
                stamp = now_ms + turn * 3_600_000
                peer.say(message(9, picture(number == 0, mark=number), timestamp=stamp & 0xFFFFFFFF))
                now_ms += 40
                self.edge.clock.advance(0.04)
        self.assertTrue(peer.is_closed)
        ((_, _, reason),) = [status for status in peer.statuses() if status[0] == "error"]
        self.assertIn("broke off", reason)
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertIsNone(stream.publisher)

    def test_bug(self) -> None:
        """A name is free again even when a bug of ours ends the publish before it begins."""
        with patch.object(publisher, "Demuxer", side_effect=ZeroDivisionError):
            self.edge.publisher()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertFalse(self.edge.publisher().is_closed)

    def test_held_until_it_leaves(self) -> None:
        """Who leaves while it is held back leaves no timer and no name behind."""
        peer = self.edge.publisher()
        for octets in media(20, with_audio=False):
            peer.say(octets)
        self.edge.wait(0.5)
        peer.leave()
        self.edge.wait(7)
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual("ended", stream.state.value)
