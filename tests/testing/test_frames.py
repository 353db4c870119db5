"""The frame source: what it makes looks like what encoders make."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice, pairwise

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.avc import AvcReader
from rapidrtmp.media import AudioConfig, MediaKind, VideoConfig
from rapidrtmp.testing.frames import (
    FrameSource,
    audio_frames,
    delayed,
    interleaved,
    make_audio_track,
    make_video_track,
    video_frames,
    video_frames_at,
)
from tests.slow import slow

VIDEO, AUDIO = make_video_track(), make_audio_track()


class TrackTests(SynchronousTestCase):
    def test_video_bitstream_says_its_size(self) -> None:
        """The bitstream says what was asked for: the size, even where it is cropped, and the frame rate."""
        for width, height in ((1280, 720), (1920, 1080), (640, 360), (854, 480)):
            track = make_video_track(width, height, Fraction(30_000, 1001))
            config = track.config
            assert isinstance(config, VideoConfig)
            self.assertEqual((width, height), (config.width, config.height))
            self.assertEqual(Fraction(30_000, 1001), config.frame_rate)
            self.assertEqual("avc1.42c01f", config.codec_string)
            self.assertEqual((1, MediaKind.VIDEO), (track.id, track.kind))

    def test_audio_config_says_its_rate(self) -> None:
        """Sample rate and channels are in the config, and in the track's times."""
        for rate, channels in ((48_000, 2), (44_100, 1), (22_050, 6)):
            track = make_audio_track(rate, channels)
            config = track.config
            assert isinstance(config, AudioConfig)
            self.assertEqual((rate, channels, 1_024), (config.sample_rate, config.channels, config.samples_per_frame))
            self.assertEqual((2, rate), (track.id, track.timescale))


class FrameTests(SynchronousTestCase):
    def test_grid_without_whole_ticks(self) -> None:
        """Decode times stay on the grid of a frame rate that has no whole number of ticks."""
        frames = video_frames(VIDEO, 10, frame_rate=Fraction(24_000, 1001), gop=24)
        self.assertEqual(240, len(frames))
        self.assertEqual(239 * 1001 * 90_000 // 24_000, frames[-1].dts)
        self.assertEqual([0, 24, 48], [number for number, frame in enumerate(frames) if frame.keyframe][:3])

    def test_b_frames_within_their_gop(self) -> None:
        """B-frames are decoded after the picture they look ahead to, and no GOP looks into another."""
        frames = video_frames(VIDEO, 1, gop=8, b_frames=2)[:8]
        self.assertEqual([0, 3, 1, 2, 6, 4, 5, 7], [frame.pts // 3_000 - 1 for frame in frames])
        self.assertTrue(all(frame.composition_offset >= 0 for frame in frames))
        everything = video_frames(VIDEO, 10, gop=30, b_frames=3)
        self.assertEqual(list(range(1, 301)), sorted(frame.pts // 3_000 for frame in everything))

    def test_drops_leave_their_time(self) -> None:
        """A frame that was dropped leaves its time; keyframes are not dropped."""
        frames = video_frames(VIDEO, 1, gop=10, dropped=(0, 3, 4))
        self.assertEqual([0, 3_000, 6_000, 15_000], [frame.dts for frame in frames[:4]])

    def test_payloads_look_like_access_units(self) -> None:
        """Payloads have the form of access units, sizes near what was asked for, and all differ."""
        frames = video_frames(VIDEO, 3, gop=30, size=200)
        config = VIDEO.config
        assert isinstance(config, VideoConfig)
        reader = AvcReader(config)
        for frame in frames:
            self.assertEqual((frame.data, frame.keyframe), (reader.read(frame.data), reader.keyframe))
            self.assertEqual(1_600 if frame.keyframe else 200, len(frame.data))
        self.assertEqual(len(frames), len({frame.data for frame in frames}))
        sounds = audio_frames(AUDIO, 3, size=80)
        self.assertEqual({80}, {len(frame.data) for frame in sounds})
        self.assertEqual(len(sounds), len({frame.data for frame in sounds}))

    def test_free_times_of_frames(self) -> None:
        """Frames may come at any time, with keyframes anywhere."""
        frames = video_frames_at(VIDEO, [0, 10, 90_000], (0, 2), duration=5)
        self.assertEqual([(0, True), (10, False), (90_000, True)], [(frame.dts, frame.keyframe) for frame in frames])

    def test_interleaving_by_arrival_time(self) -> None:
        """Tracks are put together by arrival, each in its own order; a delayed one comes later."""
        frames = interleaved(video_frames(VIDEO, 2), delayed(audio_frames(AUDIO, 2), 200))
        self.assertTrue(all(one.arrived_ms <= other.arrived_ms for one, other in pairwise(frames)))
        sound = next(frame for frame in frames if frame.track is AUDIO)
        self.assertEqual((0, 221), (sound.dts, sound.arrived_ms))


class SourceTests(SynchronousTestCase):
    def test_pieces_join_without_holes(self) -> None:
        """Pieces are whole GOPs that join on to each other without a hole, at any frame rate."""
        for rate in (Fraction(30), Fraction(30_000, 1001), Fraction(24_000, 1001)):
            source = FrameSource(VIDEO, AUDIO, frame_rate=rate, gop=48, b_frames=1)
            self.assertEqual((VIDEO, AUDIO), source.tracks)
            frames = source.take() + source.take(2) + source.take()
            video = [frame for frame in frames if frame.track is VIDEO]
            whole = video_frames(VIDEO, float(4 * 48 / rate), frame_rate=rate, gop=48, b_frames=1)
            self.assertEqual(whole, video)
            audio = [frame for frame in frames if frame.track is AUDIO]
            self.assertEqual([number * 1_024 for number in range(len(audio))], [frame.dts for frame in audio])
            self.assertApproximates(float(4 * 48 / rate), len(audio) * 1_024 / 48_000, 0.03)

    @slow
    def test_endless_source_of_frames(self) -> None:
        """It can be iterated over as long as one likes, with one track or with two."""
        for tracks in ((VIDEO, AUDIO), (VIDEO, None), (None, AUDIO)):
            frames = list(islice(FrameSource(*tracks, gop=10), 1_000))
            self.assertEqual(1_000, len(frames))
            self.assertTrue(frames[0].keyframe)
