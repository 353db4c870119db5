"""What a publisher hears, when it is held back, and when it has to go."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.table import names_carried
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.media import MediaKind
from rapidrtmp.net import publisher
from tests.codec.builders import aac_48k, audio_config, on_track, picture, sound, video_config
from tests.net.edge import NAME, Edge, Peer, media
from tests.rtmp import amf_bytes
from tests.rtmp.amf_bytes import END, OBJECT, key, text
from tests.rtmp.client import HANDSHAKE, command, message


def pictures(times_ms: Iterable[int], gop: int) -> Iterator[tuple[int, bytes]]:
    """Video alone: a config, then a picture at each of these times, and a keyframe every ``gop`` of them."""
    yield 0, message(9, video_config(), timestamp=0)
    for number, time_ms in enumerate(times_ms):
        yield time_ms, message(9, picture(number % gop == 0, mark=number), timestamp=time_ms)


#: Messages of codecs that are not carried.
VVC, G711 = message(9, b"\x90vvc1\1"), message(8, b"\x72" + bytes(160))


def sounds(until_ms: int, start_ms: int = 0) -> Iterator[tuple[int, bytes]]:
    """Audio alone: a config, then AAC in real time."""
    yield start_ms, message(8, audio_config(), timestamp=start_ms)
    for time_ms in aac_48k((until_ms - start_ms) * 48 // 1024, start_ms):
        yield time_ms, message(8, sound(), timestamp=time_ms)


def _slice(time_ms: int) -> bytes:
    """A picture at that time, of a track with a keyframe every two seconds."""
    return picture(time_ms % 2_000 == 0, mark=time_ms)


class PublisherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.close)

    def in_real_time(self, peer: Peer, timed: Iterable[tuple[int, bytes]]) -> None:
        """Send each message when it is due."""
        for due_ms, data in timed:
            while self.edge.clock.seconds() * 1000 < due_ms:
                self.edge.clock.advance(0.02)
            peer.say(data)

    def test_good_publisher_hears_nothing(self) -> None:
        """A publisher that does well hears nothing, and the API shows numbers without findings."""
        peer = self.edge.publisher()
        self.in_real_time(peer, pictures(range(0, 12_000, 40), gop=50))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        assert stream.health is not None
        self.assertEqual(((), 2000), (stream.findings, stream.health.keyframe_interval_ms))
        self.assertEqual([], peer.statuses())

    def test_advice_is_given_once(self) -> None:
        """Keyframes that are far apart are found, counted, and reported to the encoder, once, and it continues."""
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

    def test_slow_relay_is_found(self) -> None:
        """What a relay has to say to the encoder is a finding of its own kind, as long as it is said."""
        peer = self.edge.publisher()
        self.in_real_time(peer, pictures(range(0, 6_000, 40), gop=50))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        stream.advise("relay push-1", "The relay is slower than the stream.")
        self.in_real_time(peer, pictures(range(6_000, 12_000, 40), gop=50))
        self.assertEqual(["relay"], [finding.kind.value for finding in stream.findings])
        stream.advise("relay push-1", "")
        self.in_real_time(peer, pictures(range(12_000, 18_000, 40), gop=50))
        self.assertEqual((), stream.findings)

    def test_left_out_size_is_found(self) -> None:
        """A picture of another shape is no size of the first one: it is found, and the encoder hears what to do."""
        peer = self.edge.publisher()
        upright = video_config(width_mbs=20)
        peer.say(message(9, on_track(2, upright), timestamp=0))
        timed = list(pictures(range(0, 12_000, 40), gop=50))
        both = [
            each for at, data in timed for each in ((at, data), (at, message(9, on_track(2, _slice(at)), timestamp=at)))
        ]
        self.in_real_time(peer, both)
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual(["track_left_out"], [finding.kind.value for finding in stream.findings])
        self.assertIn("video track 2", stream.findings[0].advice)
        stream.advise("video-1", "Its keyframes are elsewhere.")
        self.edge.wait(6)
        advice = " ".join(finding.advice for finding in stream.findings)
        self.assertIn("Its keyframes are elsewhere. Viewers do not get", advice)
        stream.advise("video-1", "")
        self.edge.wait(6)
        self.assertNotIn("elsewhere", " ".join(finding.advice for finding in stream.findings))

    def test_unplayable_codecs_are_found(self) -> None:
        """What browsers refuse is found however well it arrives, and the encoder hears what to set."""
        peer = self.edge.publisher()
        main = (
            message(8, audio_config(b"\x09\x90"), timestamp=0) if not at else each
            for at, (_, each) in enumerate(sounds(9_000))
        )
        self.in_real_time(peer, zip([due_ms for due_ms, _ in sounds(9_000)], main, strict=True))
        self.assertEqual(["unplayable_codec"], [finding.kind.value for finding in self.live_stream().findings])
        ((_, _, advice),) = peer.statuses()
        self.assertIn("refuse AAC Main (mp4a.40.1): set the encoder to AAC-LC", advice)

    def test_nothing_usable_is_found(self) -> None:
        """Video of which no picture can be shown is found before there is any track, and each way has its words."""
        delimiters = [
            (at_ms, message(9, b"\x27\1\0\0\0\0\0\0\2\x09\xf0", timestamp=at_ms)) for at_ms in range(0, 12_000, 40)
        ]
        config = (0, message(9, video_config(), timestamp=0))
        for timed, kind, words in (
            (
                list(pictures(range(0, 12_000, 40), gop=10_000))[:1]
                + list(pictures(range(0, 12_000, 40), gop=10_000))[2:],
                "long_keyframe_interval",
                "Viewers cannot join: the encoder sends no keyframes",
            ),
            ([config, *delimiters], "video_missing", "no picture of it can be read"),
            (list(pictures(range(0, 12_000, 40), gop=50))[1:], "dropped_frames", "frames could not be used"),
        ):
            self.setUp()
            peer = self.edge.publisher()
            self.in_real_time(peer, timed)
            self.assertIn(kind, [finding.kind.value for finding in self.live_stream().findings])
            self.assertIn(words, " ".join(advice for _, _, advice in peer.statuses()))

    def live_stream(self) -> LiveStream:
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        return stream

    def notice(self) -> str:
        """What viewers are shown."""
        stored = self.live_stream().shelf.find("notice.json")
        return "" if stored is None else str(json.loads(stored.body)["notice"])

    def test_no_codec_is_carried(self) -> None:
        """A publish of which nothing is carried is refused after a second, with words for the encoder and viewers."""
        for sent, refusal, notice in (
            ([VVC], "The video codec VVC (vvc1) is not carried here", "No picture: the encoder sends VVC (vvc1)"),
            ([G711], "The audio codec G.711 A-law is not carried here", "No sound: the encoder sends G.711 A-law"),
            (
                [VVC, G711],
                "The video codec VVC (vvc1) and the audio codec G.711 A-law are not carried here",
                "No picture and no sound: the encoder sends VVC (vvc1) and G.711 A-law",
            ),
        ):
            self.setUp()
            peer = self.edge.publisher()
            self.in_real_time(peer, ((at_ms, each) for at_ms in range(0, 1_400, 40) for each in sent))
            *advice, (level, code, words) = peer.statuses()
            self.assertEqual(("error", "NetStream.Publish.Denied"), (level, code))
            self.assertIn(refusal, words)
            self.assertIn(names_carried(), words)
            self.assertEqual({"warning"}, {status[0] for status in advice})
            self.assertTrue(peer.is_closed)
            self.assertEqual(f"{notice}, which this server does not carry", self.notice())

    def test_one_codec_is_carried(self) -> None:
        """Where one of two is carried, the stream is live with it within a second, and says what is missing."""
        for timed, left_out, word, name, kind in (
            (list(pictures(range(0, 7_000, 40), gop=50)), G711, "sound", "G.711 A-law", MediaKind.VIDEO),
            (list(sounds(7_000)), VVC, "picture", "VVC (vvc1)", MediaKind.AUDIO),
        ):
            self.setUp()
            peer = self.edge.publisher()
            both = [each for due_ms, sent in timed for each in ((due_ms, left_out), (due_ms, sent))]
            early = [each for each in both if each[0] <= 1_000]
            self.in_real_time(peer, early)
            stream = self.live_stream()
            self.assertEqual([kind], [track.kind for track in stream.tracks])
            self.in_real_time(peer, both[len(early) :])
            self.assertEqual(["unsupported_codec"], [finding.kind.value for finding in stream.findings])
            ((level, _, advice),) = peer.statuses()
            self.assertEqual(("warning", stream.findings[0].advice), (level, advice))
            self.assertIn(name, advice)
            self.assertEqual(f"No {word}: the encoder sends {name}, which this server does not carry", self.notice())
            self.assertEqual(1, self.edge.metric("findings_total", finding="unsupported_codec"))
            self.assertFalse(peer.is_closed)

    def test_announced_audio_is_awaited(self) -> None:
        """Where a carried track is announced a publish is not refused before that had its time to come."""
        peer = self.edge.publisher()
        peer.say(message(8, audio_config()))
        self.in_real_time(peer, ((at_ms, VVC) for at_ms in range(0, 3_000, 40)))
        self.assertFalse(peer.is_closed)
        self.in_real_time(peer, sounds(5_000, start_ms=3_000))
        self.assertFalse(peer.is_closed)
        self.assertEqual([MediaKind.AUDIO], [track.kind for track in self.live_stream().tracks])

    def test_carried_again_has_no_finding(self) -> None:
        """An encoder that changes to a codec that is carried has no finding any more, and viewers no notice."""
        peer = self.edge.publisher()
        peer.say(VVC)
        self.in_real_time(peer, sounds(1_000))
        self.assertNotEqual("", self.notice())
        both = [*pictures(range(1_000, 9_000, 40), gop=25), *sounds(9_000, start_ms=1_000)]
        self.in_real_time(peer, sorted(both, key=lambda timed: timed[0]))
        self.assertEqual(((), ""), (self.live_stream().findings, self.notice()))

    def test_codecs_in_turn(self) -> None:
        """However often it changes between codecs that are not carried, it hears of it a few times only."""
        peer = self.edge.publisher()
        for number in range(500):
            peer.say(VVC if number % 2 else message(9, b"\x90vp08\1"))
        self.assertLess(len(peer.statuses()), 40)

    def test_leaves_at_keyframe(self) -> None:
        """Asked to leave it sends up to its next keyframe, is given the reason without being refused, and closed."""
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

    def test_is_asked_to_reconnect(self) -> None:
        """Before a planned stop an encoder that can is asked to connect again; until it goes it is listened to."""
        peer = self.edge.peer()
        properties = OBJECT + key("app") + text("live") + key("capsEx") + amf_bytes.number(1) + END
        peer.say(HANDSHAKE, command("connect", 1, properties=properties), command("createStream", 4))
        peer.publish().heard()
        messages = list(pictures(range(0, 6_000, 40), gop=50))
        self.in_real_time(peer, messages[:76])
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        assert stream.publisher is not None
        stream.publisher.disconnect_at_keyframe("the server is shutting down", 2_000)
        asked = ("status", "NetConnection.Connect.ReconnectRequest", "the server is shutting down")
        self.assertEqual([asked], peer.statuses())
        self.in_real_time(peer, messages[76:90])
        self.assertFalse(peer.is_closed)
        self.assertEqual(89, stream.statistics.frames)
        peer.leave()
        self.assertIs(StreamState.INTERRUPTED, stream.state)

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

    def test_too_fast_publisher_is_held(self) -> None:
        """A file that is sent at once is not read any further until time has caught up, and is not taken for silent."""
        peer = self.edge.publisher()
        for _, data in pictures(range(0, 20_000, 40), gop=50):
            peer.say(data)
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

    def test_bitrate_above_the_limit(self) -> None:
        """A publisher that stays above the limit is notified, closed, counted, and named in one line of the log."""
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

    def test_bitrate_of_an_application(self) -> None:
        """The limit of an application acts as well; the publisher is advised before it is disconnected, and in time."""
        app = self.edge.apps["live"]
        app.limits = replace(app.limits, max_bitrate_bps=1_000_000)
        peer = self.edge.publisher()
        statuses: list[tuple[str, str, str]] = []
        for _ in range(300):
            if peer.is_closed:
                break
            peer.say(message(99, bytes(60_000)))
            self.edge.clock.advance(0.25)  # 1.92 Mbit/s
            statuses += peer.statuses()
        self.assertTrue(peer.is_closed)
        words = [text for _, _, text in statuses if "1 Mbit/s" in text]
        self.assertEqual(2, len(words), words)
        self.assertIn("lower it", words[0])

    def test_bitrate_at_its_limit(self) -> None:
        """A publisher that sends just what it may is neither advised nor disconnected."""
        app = self.edge.apps["live"]
        app.limits = replace(app.limits, max_bitrate_bps=1_940_000)
        peer = self.edge.publisher()
        for _ in range(200):
            peer.say(message(99, bytes(60_000)))
            self.edge.clock.advance(0.25)
        self.assertFalse(peer.is_closed)
        self.assertEqual([], [text for _, _, text in peer.statuses() if "Mbit/s" in text])

    def test_memory_above_the_limit(self) -> None:
        """A publisher whose stream takes too much memory is notified, closed and counted."""
        self.edge.close()
        self.edge = Edge(max_stream_bytes=1_000_000)
        peer = self.edge.publisher()
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        stream.shelf.put("segment_1.m4s", [bytes(900_000)], "video/mp4")
        self.edge.wait(1)
        self.assertFalse(peer.is_closed)
        stream.shelf.put("segment_2.m4s", [bytes(900_000)], "video/mp4")
        self.edge.wait(1)
        self.assertIn(("error", "NetStream.Publish.Denied"), [status[:2] for status in peer.statuses()])
        self.assertTrue(peer.is_closed)
        self.assertEqual(1, self.edge.metric("publishers_over_memory_total"))

    def test_storm_ends_the_publisher(self) -> None:
        """A clock that jumps again and again ends its publisher, which learns why; the stream stays for another."""
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

    def test_bug_frees_the_name(self) -> None:
        """A name is free again even when a bug of ours ends the publish before it begins."""
        with patch.object(publisher, "Demuxer", side_effect=ZeroDivisionError):
            self.edge.publisher()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertFalse(self.edge.publisher().is_closed)

    def test_held_until_it_leaves(self) -> None:
        """Who leaves while it is held back leaves no timer and no name behind."""
        peer = self.edge.publisher()
        for data in media(20, with_audio=False):
            peer.say(data)
        self.edge.wait(0.5)
        peer.leave()
        self.edge.wait(7)
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual("ended", stream.state.value)
