from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.demuxer import Demuxer, MediaProblem, PublishHealth
from rapidrtmp.media import MediaKind
from tests.codec.builders import (
    ASC_48K,
    Message,
    aac_48k,
    audio_messages,
    configs,
    every,
    interleaved,
    video_messages,
)
from tests.slow import slow

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO


def media(seconds: int, gop: int = 60) -> list[Message]:
    """Video of 10 pictures a second, and 48 kHz AAC."""
    return interleaved(video_messages(every(10, seconds * 10), gop), audio_messages(aac_48k(seconds * 48_000 // 1024)))


class HealthTests(SynchronousTestCase):
    def publish(
        self,
        messages: list[Message],
        *,
        arrives: Callable[[Message], int] = lambda message: message.timestamp,
        asc: bytes | None = ASC_48K,
        has_video: bool = True,
    ) -> Demuxer:
        demuxer = Demuxer()
        self.skews: list[str] = []
        for kind, _, payload in configs(asc=asc, has_video=has_video):
            (demuxer.video_received if kind is VIDEO else demuxer.audio_received)(0, payload, 0)
        for message in sorted(messages, key=arrives):
            receive = demuxer.video_received if message.kind is VIDEO else demuxer.audio_received
            events = receive(message.timestamp, message.payload, arrives(message))
            events += demuxer.poll(arrives(message))
            self.skews += [e.detail for e in events if isinstance(e, MediaProblem) and e.kind == "track_skew"]
        return demuxer

    def test_nothing_yet_is_zero(self) -> None:
        """Before anything has come all numbers are 0."""
        self.assertEqual(PublishHealth(*[0] * 13, False, False, 0, 0), Demuxer().health)

    def test_good_publish_shows_keyframes(self) -> None:
        """A good publish in real time has nothing but keyframes to show."""
        health = self.publish(media(60)).health
        self.assertTrue(-2 <= health.lead_ms <= 0)
        self.assertEqual(PublishHealth(health.lead_ms, *[0] * 8, 6_000, 6_000, 6_000, 0, False, False, 0, 68), health)
        self.assertEqual([], self.skews)

    @slow
    def test_faster_than_real_time(self) -> None:
        """A file sent at twice its speed leads by half of its length, and gains a minute a minute."""
        health = self.publish(media(60), arrives=lambda message: message.timestamp // 2).health
        self.assertTrue(29_900 <= health.lead_ms <= 30_000, health.lead_ms)
        health = self.publish(media(120), arrives=lambda message: message.timestamp // 2).health
        self.assertTrue(58_000 <= health.lead_drift_ms <= 62_000, health.lead_drift_ms)
        self.assertEqual([], self.skews)

    def test_slower_than_real_time(self) -> None:
        """An encoder that makes nine seconds of media in ten falls behind by as much."""
        health = self.publish(media(90), arrives=lambda message: message.timestamp * 10 // 9).health
        # Of the last half a minute the frame furthest ahead counts, which is the first.
        self.assertTrue(-10_000 <= health.lead_ms <= -6_000, health.lead_ms)
        self.assertTrue(-6_100 <= health.lead_drift_ms <= -5_900, health.lead_drift_ms)

    def test_lead_over_a_jump(self) -> None:
        """The lead of one that sends faster than real time counts on over a jump of its clock."""
        later = [message._replace(timestamp=message.timestamp + 90_000_000) for message in media(20)]
        health = self.publish(
            media(20) + later,
            arrives=lambda message: message.timestamp % 90_000_000 // 2 + message.timestamp // 90_000_000 * 10_000,
        ).health
        self.assertTrue(19_800 <= health.lead_ms <= 20_000, health.lead_ms)

    def test_lag_over_a_jump(self) -> None:
        """Time that was lost before a jump is not held against what follows."""
        later = [message._replace(timestamp=message.timestamp + 90_000_000) for message in media(20)]
        health = self.publish(
            media(20) + later,
            arrives=lambda message: message.timestamp % 90_000_000 + message.timestamp // 90_000_000 * 50_000,
        ).health
        self.assertTrue(-2 <= health.lead_ms <= 0, health.lead_ms)

    def test_skew_is_reported_once(self) -> None:
        """Audio that arrives three seconds after its video is reported once, with the number."""
        health = self.publish(
            media(60), arrives=lambda message: message.timestamp + (3_000 if message.kind is AUDIO else 0)
        ).health
        self.assertTrue(-3_002 <= health.skew_ms <= -2_998, health.skew_ms)
        self.assertEqual(1, len(self.skews))
        self.assertRegex(self.skews[0], r"^audio is (2999|300\d) ms behind video, and gains 0 ms a minute$")

    def test_skew_drift_is_reported_early(self) -> None:
        """Tracks whose clocks drift apart by 200 ms a minute are reported once, long before a viewer hears it."""
        messages = [
            message._replace(timestamp=message.timestamp * 3010 // 3000) if message.kind is AUDIO else message
            for message in media(100)
        ]
        arrivals = {
            id(message): message.timestamp * 3000 // 3010 if message.kind is AUDIO else message.timestamp
            for message in messages
        }
        health = self.publish(messages, arrives=lambda message: arrivals[id(message)]).health
        self.assertTrue(195 <= health.skew_drift_ms <= 205, health.skew_drift_ms)
        self.assertEqual(1, len(self.skews))

    def test_jitter_shows_as_jitter(self) -> None:
        """Arrivals that vary by some 60 ms show as jitter, and as nothing else."""
        health = self.publish(media(60), arrives=lambda message: message.timestamp + message.timestamp * 7 % 61).health
        self.assertTrue(10 <= health.jitter_ms <= 40, health.jitter_ms)
        self.assertEqual((0, 0), (health.repaired_timestamps, health.gaps))
        self.assertLessEqual(abs(health.skew_ms), 10)

    def test_counts_of_repairs_and_gaps(self) -> None:
        """Repaired timestamps, dropped frames and gaps are counted."""
        messages = [
            message._replace(timestamp=900_000) if index == 200 else message
            for index, message in enumerate(media(30))
            if not 20_000 < message.timestamp < 22_000
        ]
        demuxer = self.publish(messages, arrives=_in_order(messages))
        demuxer.video_received(0, b"\x17", 30_000)
        health = demuxer.health
        self.assertEqual((1, 1, 2), (health.repaired_timestamps, health.dropped_frames, health.gaps))

    def test_keyframes_last_and_longest(self) -> None:
        """The last distance of keyframes and the longest one are reported."""
        messages = [*media(12, gop=40), *video_messages([12_000, 19_000, 20_500], gop=1)]
        health = self.publish(messages).health
        self.assertEqual((1_500, 7_000), (health.keyframe_interval_ms, health.keyframe_interval_max_ms))

    def test_missing_audio_was_announced(self) -> None:
        """Audio that was announced, or configured, and never came is missing; audio never mentioned is not."""
        pictures = [message for message in media(10) if message.kind is VIDEO]
        self.assertFalse(self.publish(pictures, asc=None).health.audio_missing)
        self.assertTrue(self.publish(pictures).health.audio_missing)
        demuxer = Demuxer()
        demuxer.metadata_received({"hasAudio": True})
        for _, timestamp, payload in [*configs(asc=None), *pictures]:
            demuxer.video_received(timestamp, payload, timestamp)
        self.assertTrue(demuxer.health.audio_missing)
        self.assertFalse(self.publish(media(10)).health.audio_missing)

    def test_silence_of_one_track(self) -> None:
        """How long a track has sent nothing is reported while the other continues, and when neither does."""
        messages = [message for message in media(20) if message.kind is VIDEO or message.timestamp < 8_000]
        demuxer = self.publish(messages)
        health = demuxer.health
        self.assertTrue(11_900 <= health.audio_silent_ms <= 12_000, health.audio_silent_ms)
        self.assertEqual((0, False), (health.video_silent_ms, health.audio_missing))
        demuxer.poll(24_900)
        self.assertEqual(5_000, demuxer.health.video_silent_ms)
        self.assertEqual(0, self.publish([m for m in messages if m.kind is VIDEO], asc=None).health.audio_silent_ms)


def _in_order(messages: list[Message]) -> Callable[[Message], int]:
    """Arrivals of messages that come in this order, one of them perhaps with a timestamp from elsewhere."""
    arrivals: dict[int, int] = {}
    for message in messages:
        now_ms = message.timestamp if message.timestamp < 100_000 else max(arrivals.values())
        arrivals[id(message)] = now_ms
    return lambda message: arrivals[id(message)]
