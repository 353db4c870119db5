"""Tests of `rapidrtmp.timeline.rhythm`."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.media import Frame, MediaKind, Rhythm
from rapidrtmp.timeline.rhythm import RhythmMeter
from tests.codec.builders import aac_48k, audio_messages, configs, demux, every, frames_of, video_messages

NTSC = Fraction(30_000, 1001)


def measure(
    times: Iterable[int], gop: int, *, rates: tuple[Fraction, ...] = (), meter: RhythmMeter | None = None
) -> list[Rhythm]:
    """What is known with each of these frames, every ``gop``-th a keyframe."""
    meter = meter or RhythmMeter()
    meter.begin(rates)
    return [meter.saw(time, 3_000, keyframe=number % gop == 0) for number, time in enumerate(times)]


class RhythmMeterTests(SynchronousTestCase):
    def test_frame_rate_after_ten_frames(self) -> None:
        """The frame rate is known after ten frames, and exact over whole GOPs."""
        found = measure((3_003 * number for number in range(200)), gop=60)
        self.assertEqual([None] * 10, [rhythm.frame_rate for rhythm in found[:10]])
        self.assertEqual({NTSC}, {rhythm.frame_rate for rhythm in found[10:]})

    def test_claimed_rate_within_a_percent(self) -> None:
        """A rate that is claimed is believed as long as the frames agree to one percent."""
        self.assertEqual(NTSC, measure([0], gop=60, rates=(NTSC,))[0].frame_rate)
        self.assertEqual(NTSC, measure(range(0, 600_000, 3_000), gop=60, rates=(NTSC,))[-1].frame_rate)
        self.assertEqual(Fraction(25), measure(range(0, 600_000, 3_600), gop=60, rates=(NTSC,))[-1].frame_rate)

    def test_lost_frames_lower_the_rate(self) -> None:
        """Frames that are missing lower the rate: it is what comes, and not what should."""
        times = [3_000 * number for number in range(1_200) if number % 10]
        self.assertEqual(Fraction(27), measure(times, gop=54)[-1].frame_rate)

    def test_change_of_rate(self) -> None:
        """After eight GOPs at another rate nothing of the first one is left."""
        times = [*range(0, 90_000, 3_000), *range(90_000, 990_000, 1_500)]
        found = measure(times, gop=30)
        self.assertEqual((Fraction(30), Fraction(60)), (found[30].frame_rate, found[-1].frame_rate))

    def test_keyframes_and_longest_interval(self) -> None:
        """The interval is that of the last two keyframes, the longest that of the last eight."""
        found = measure((3_000 * number for number in range(100)), gop=30)
        self.assertEqual([0, 0, 90_000, 90_000], [found[at].keyframe_interval for at in (0, 29, 30, 99)])
        meter, at, longest = RhythmMeter(), 0, []
        for interval in (180_000, *[90_000] * 9):
            longest.append(meter.saw(at, 3_000, keyframe=True).longest_interval)
            at += interval
        self.assertEqual([0, *[180_000] * 8, 90_000], longest)
        self.assertEqual(180_000, meter.longest_interval)

    def test_steadiness_over_three_intervals(self) -> None:
        """Keyframes are steady when the last three intervals are of one length, to half a frame."""
        meter, at = RhythmMeter(), 0
        found = []
        for interval in (90_000, 90_000, 91_000, 93_000, 93_000, 93_000):
            found.append(meter.saw(at, 3_000, keyframe=True).is_steady)
            at += interval
        found.append(meter.saw(at, 3_000, keyframe=True).is_steady)
        self.assertEqual([False, True, True, True, False, False, True], found)

    def test_gaps_over_half_a_second(self) -> None:
        """A pause of more than half a second is a gap; where the timeline breaks off there is none."""
        meter = RhythmMeter()
        measure([0, 3_000, 51_000, 54_000, 102_001], gop=60, meter=meter)
        self.assertEqual(1, meter.gaps)
        measure([900_000], gop=60, meter=meter)
        self.assertEqual(1, meter.gaps)

    def test_slow_cameras_have_no_gaps(self) -> None:
        """A picture a second, or one in five, is a camera's rhythm and no gap; a pause of that is one again."""
        for step in (90_000, 450_000):
            meter = RhythmMeter()
            measure((step * number for number in range(30)), gop=1, meter=meter)
            self.assertEqual(0, meter.gaps)
            meter.saw(29 * step + 3 * step, 3_000, keyframe=True)
            self.assertEqual(1, meter.gaps)

    def test_crowded_start_keeps_the_rate(self) -> None:
        """Three first pictures at one time make no other frame rate of a stream on a grid."""
        times = [0, 1, 2, *(3_600 * number for number in range(1, 48))]
        meter = RhythmMeter()
        meter.begin([Fraction(25)])
        found = [meter.saw(dts, 3_600, keyframe=number % 50 == 0) for number, dts in enumerate([*times, 172_800])]
        self.assertEqual({Fraction(25)}, {each.frame_rate for each in found})

    def test_beyond_reason_is_not_shown(self) -> None:
        """A rate that no camera has is a fault in the timestamps, and is not shown."""
        self.assertEqual({None}, {each.frame_rate for each in measure(range(0, 6_000, 100), gop=20)})

    def test_since_keyframe_counts_on(self) -> None:
        """The time since the last keyframe counts on for as long as none comes."""
        meter = RhythmMeter()
        self.assertEqual(0, meter.since_keyframe)
        measure((3_000 * number for number in range(450)), gop=1_000, meter=meter)
        self.assertEqual(450 * 3_000, meter.since_keyframe)

    def test_break_is_measured_anew(self) -> None:
        """What follows a break is measured anew; the frame rate is taken to stay, and the longest interval is kept."""
        meter = RhythmMeter()
        measure((3_000 * number for number in range(61)), gop=30, meter=meter)
        found = measure([900_000], gop=30, meter=meter)
        self.assertEqual([Rhythm(Fraction(30))], found)
        self.assertEqual(90_000, meter.longest_interval)


class FramesTests(SynchronousTestCase):
    def test_frames_carry_it(self) -> None:
        """Frames of the timeline carry what is measured of their track, the first of them what is claimed."""
        events = demux([*configs(Fraction(30), None), *video_messages(every(30, 90))])
        frames: list[Frame] = frames_of(events, MediaKind.VIDEO)
        self.assertEqual({Fraction(30)}, {frame.rhythm.frame_rate for frame in frames})
        self.assertEqual([0, 90_000], [frame.rhythm.keyframe_interval for frame in (frames[29], frames[30])])

    def test_audio_is_cut_anywhere(self) -> None:
        """Audio may be cut at any frame."""
        frame = frames_of(demux([*configs(has_video=False), *audio_messages(aac_48k(200))]), MediaKind.AUDIO)[-1]
        self.assertEqual(Rhythm(Fraction(48_000, 1024), 1024, 1024, is_steady=True), frame.rhythm)
