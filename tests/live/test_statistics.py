"""What a stream has received, and how fast."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.statistics import Statistics
from rapidrtmp.testing.frames import audio_frames, interleaved, make_audio_track, make_video_track, video_frames

VIDEO, AUDIO = make_video_track(), make_audio_track()


class StatisticsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.statistics = Statistics()

    def test_counts_of_frames_and_bytes(self) -> None:
        """Frames, keyframes of video and bytes are counted."""
        frames = interleaved(video_frames(VIDEO, 2, gop=30, size=100), audio_frames(AUDIO, 2, size=50))
        for frame in frames:
            self.statistics.count(frame)
        counted = self.statistics
        self.assertEqual((len(frames), 60, 2), (counted.frames, counted.video_frames, counted.keyframes))
        self.assertEqual(sum(len(frame.data) for frame in frames), counted.byte_count)

    def test_bitrate_of_whole_seconds(self) -> None:
        """The bitrate is that of the last whole seconds; those in which nothing came count as well."""
        self.assertEqual(0, self.statistics.bits_per_second(0))
        template = audio_frames(AUDIO, 0.1, size=1_000)[0]
        for arrived_ms in range(10_000, 20_000, 100):
            self.statistics.advance(arrived_ms)
            self.statistics.count(template)
            self.assertEqual(80_000 if arrived_ms >= 11_000 else 0, self.statistics.bits_per_second(arrived_ms))
        self.assertEqual(80_000, self.statistics.bits_per_second(20_000))
        self.assertEqual(48_000, self.statistics.bits_per_second(22_000))
        self.assertEqual(0, self.statistics.bits_per_second(26_000))

    def test_arrival_out_of_order(self) -> None:
        """Frames held back by the demuxer come with arrival times that go back and forth; rates stay right."""
        template = audio_frames(AUDIO, 0.1, size=1_000)[0]
        for arrived_ms in (10_900, 11_000, 10_950, 11_100, 10_990, 12_000, 13_000, 14_000, 15_000):
            self.statistics.advance(arrived_ms)
            self.statistics.count(template)
        self.assertEqual(9 * 8_000 // 6, round(self.statistics.bits_per_second(16_000) * 5 / 6 + 8_000 / 6))
