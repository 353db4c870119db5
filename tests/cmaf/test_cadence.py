"""What is known of the next frame before it comes."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.cadence import STEADY_FRAMES, Cadence
from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import audio_frames, make_audio_track, make_video_track, video_frames, video_frames_at

VIDEO = make_video_track()


def seen(frames: Iterable[Frame]) -> Cadence:
    """What is known after some frames."""
    cadence = Cadence()
    for frame in frames:
        cadence.saw(frame)
    return cadence


class NextFrameTests(SynchronousTestCase):
    def test_steady_frames_are_predicted(self) -> None:
        """Once enough frames in a row came when they were due, the next one's time is known; an odd one ends that."""
        frames = video_frames(VIDEO, 2)
        self.assertIsNone(seen(frames[:STEADY_FRAMES]).next_dts)
        self.assertEqual(27_000, seen(frames[: STEADY_FRAMES + 1]).next_dts)
        self.assertIsNone(seen([*frames[:20], *frames[21:29]]).next_dts)
        self.assertEqual(90_000, seen([*frames[:20], *frames[21:30]]).next_dts)

    def test_rates_that_are_no_whole_numbers(self) -> None:
        """At 23.976 frames a second frames last a tick more or less; who says so is believed."""
        times = [(2 * number * 15_015 + 4) // 8 for number in range(40)]
        frames = [Frame(VIDEO, dts, 0, after - dts, False, b"", 0) for dts, after in pairwise(times)]
        self.assertEqual({3_753, 3_754}, {frame.duration for frame in frames})
        self.assertEqual(times[-1], seen(frames).next_dts)

    def test_off_any_grid(self) -> None:
        """Milliseconds that were rounded are no rhythm."""
        times = [number * 100 // 3 * 90 for number in range(90)]
        frames = [Frame(VIDEO, dts, 0, dts - before, False, b"", 0) for before, dts in pairwise(times)]
        for count in range(1, 89):
            self.assertIsNone(seen(frames[:count]).next_dts)

    def test_audio_is_steady_too(self) -> None:
        """Audio on its sample clock is as steady as anything."""
        track = make_audio_track()
        self.assertEqual(20 * 1_024, seen(audio_frames(track, 1)[:20]).next_dts)


class NextKeyframeTests(SynchronousTestCase):
    def test_equal_gops_are_predicted(self) -> None:
        """After a GOP a keyframe is due when another one of its length is over."""
        for rate in (Fraction(30), Fraction(24_000, 1001), Fraction(60_000, 1001)):
            frames = video_frames(VIDEO, 10, frame_rate=rate, gop=47)
            for count in range(1, len(frames)):
                expected = count > 47 and count % 47 == 0
                self.assertEqual(expected, seen(frames[:count]).is_keyframe_due, f"{count} at {rate}")

    def test_unequal_gops_are_not_expected(self) -> None:
        """Keyframes of scene cuts are not expected, and what they upset is trusted again after three equal GOPs."""
        keyframes = [0, 30, 60, 90, 97, 127, 157, 187, 217, 247]
        frames = video_frames_at(VIDEO, range(0, 3_000 * 260, 3_000), keyframes)
        due = [count for count in range(1, 261) if seen(frames[:count]).is_keyframe_due]
        self.assertEqual([60, 90, 217, 247], due)

    def test_longest_gop_is_known(self) -> None:
        """The longest of the last GOPs is known."""
        frames = video_frames_at(VIDEO, range(0, 3_000 * 60, 3_000), [0, 10, 30, 40])
        self.assertEqual(60_000, seen(frames).longest_gop)
        self.assertEqual(0, seen(frames[:10]).longest_gop)
        self.assertEqual([1, 2, 4], [seen(frames[:count]).keyframes for count in (10, 11, 60)])
