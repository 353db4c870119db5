"""
Streams that run for a day.

A day of 44.1 kHz audio and 30 pictures a second is 6.3 million messages, too many to demultiplex one by one in a unit
test. Nothing in a timeline is older than the two seconds it looks back at frames and the five of the audio's drift but
the clocks themselves: so those run for a whole day, and whole messages for an hour, in which the timestamps wrap. Their
rounding repeats every 51.2 s (441 audio frames in 10.24 s, three pictures in 0.1 s).
"""

from __future__ import annotations

from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.demuxer import Demuxer
from rapidrtmp.media import Frame, MediaKind
from rapidrtmp.timeline.audio_clock import AudioClock
from rapidrtmp.timeline.frame_rate import FrameStep
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.video_clock import VideoClock
from tests.codec.builders import ASC_44K, configs, picture, sound
from tests.slow import slow

DAY_S = 86_400
VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO


@slow
class DayOfOneTrackTests(SynchronousTestCase):
    def test_p6_day_of_audio(self) -> None:
        """P6: in a day of 44.1 kHz AAC every frame lasts 1024 samples, and the last is where its timestamp is."""
        clock, count = AudioClock(44_100, 1024, TimelinePolicy()), DAY_S * 44_100 // 1024
        place = clock.place
        for index in range(count):
            if place((index * 10_240 // 441 * 441 + 5) // 10, 1024) is not None or clock.duration != 1024:
                self.fail(f"frame {index} was not let be")
        self.assertEqual((count - 1) * 1024, clock.dts)

    def test_day_of_drifting_audio(self) -> None:
        """In a day of audio whose samples are 200 ppm slow, sound is within 40 ms of its timestamps all the time."""
        clock, count, furthest = AudioClock(44_100, 1024, TimelinePolicy()), DAY_S * 44_100 // 1024, 0
        place = clock.place
        for index in range(count):
            arrival = index * 1024 * 10_002 // 10_000
            if place(arrival, 1024) is not None or not 1023 <= clock.duration <= 1025:
                self.fail(f"frame {index} was not let be")
            if not -furthest <= arrival - clock.dts <= furthest:
                furthest = abs(arrival - clock.dts)
        self.assertLess(furthest * 1000 / 44_100, 40)

    def test_day_of_video(self) -> None:
        """In a day of 30 pictures a second all are on the grid, and the last is where its timestamp is."""
        clock, count = VideoClock(0, [Fraction(30)], TimelinePolicy()), DAY_S * 30
        clock.expect([0, 3060, 6030, 9000], FrameStep(3_000, 1))
        place = clock.place
        for index in range(count):
            if place(-(-index * 1000 // 30) * 90, 0, False) is not None or clock.dts != index * 3000:
                self.fail(f"frame {index} at {clock.dts}")

    def test_hours_of_drifting_video(self) -> None:
        """In six hours of a camera that is 200 ppm slow, pictures are within 5 ms of their timestamps all the time."""
        clock, furthest = VideoClock(0, [Fraction(30)], TimelinePolicy()), 0
        clock.expect([0, 3060, 6030, 9000], FrameStep(3_000, 1))
        for index in range(6 * 3600 * 30):
            arrival = index * 100_020 // 3_000 * 90
            before = clock.dts
            clock.place(arrival, 0, index % 60 == 0)
            if clock.dts <= before:
                self.fail(f"frame {index} at {clock.dts}")
            furthest = max(furthest, abs(clock.dts - arrival))
        self.assertLess(furthest, 5 * 90)


@slow
class WholeStreamTests(SynchronousTestCase):
    def run_for(self, seconds: int, ppm: int = 0, first: int = 0, modulus: int = 1 << 32) -> Demuxer:
        """Publish as a clock that is fast by ``ppm`` counts, and hold every frame against what it says."""
        demuxer = Demuxer()
        for kind, _, payload in configs(asc=ASC_44K):
            (demuxer.video_received if kind is VIDEO else demuxer.audio_received)(0, payload, 0)
        pictures, sounds = picture(keyframe=False), sound()
        video = audio = 0
        self.video = self.audio = self.least = self.most = 0
        while True:
            video_ms, audio_ms = video * 1000 // 30, audio * 10_240 // 441
            media_ms = min(video_ms, audio_ms)
            if media_ms >= seconds * 1000:
                break
            now_ms = media_ms * 1_000_000 // (1_000_000 + ppm)
            if video_ms <= audio_ms:
                payload = pictures if video % 30 else picture(keyframe=True)
                events = demuxer.video_received((first + video_ms) % modulus, payload, now_ms)
                video += 1
            else:
                events = demuxer.audio_received((first + audio_ms) % modulus, sounds, now_ms)
                audio += 1
            self.check(events)
        self.check(demuxer.finish())
        self.assertEqual((video, audio), (self.video, self.audio))
        return demuxer

    def check(self, events: list[object]) -> None:
        for event in events:
            if isinstance(event, Frame):
                if event.track.kind is VIDEO:
                    is_right = event.dts == self.video * 3000 and event.duration == 3000
                    self.video += 1
                else:
                    is_right = event.dts == self.audio * 1024 and event.duration == 1024
                    self.audio += 1
                if not is_right:
                    self.fail(f"{event.track.kind.value} at {event.dts}")
            elif self.video or self.audio:
                self.fail(repr(event))

    def test_over_a_wrap(self) -> None:
        """Twenty minutes of messages over each wrap of the timestamp: every frame exactly where it should be."""
        for modulus in (1 << 32, 1 << 31, 1 << 24):
            self.run_for(1_200, first=modulus - 600_000, modulus=modulus)

    def test_t15_fast_clock(self) -> None:
        """T15: a clock that is 200 ppm fast changes nothing in the media; health tells how far it is ahead."""
        health = self.run_for(1_200, ppm=200).health
        self.assertTrue(235 <= health.lead_ms <= 242, health.lead_ms)
        self.assertTrue(10 <= health.lead_drift_ms <= 14, health.lead_drift_ms)
        self.assertEqual((0, 0, 0), (health.skew_drift_ms, health.gaps, health.repaired_timestamps))
