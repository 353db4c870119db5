from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.timeline.frame_rate import FrameStep
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.video_clock import VideoClock, VideoRepair, sane_composition
from tests.codec.builders import every


def place(clock: VideoClock, times_ms: Sequence[int], gop: int = 30) -> list[int]:
    """The decode times of frames that arrive at ``times_ms``."""
    placed = []
    for index, time in enumerate(times_ms):
        clock.place(time * 90, 0, index % gop == 0)
        placed.append(clock.dts)
    return placed


def distances(values: Sequence[int]) -> list[int]:
    return [after - before for before, after in itertools.pairwise(values)]


class VideoClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = VideoClock(0, (), TimelinePolicy())

    def on_grid(self) -> None:
        self.clock.expect([0], FrameStep(3000, 1))

    def test_free_frames_keep_their_times(self) -> None:
        """Without a grid frames keep their times, and are expected to last as long as the one before."""
        self.assertEqual([0, 3060, 5940], place(self.clock, [0, 34, 66]))
        self.assertEqual(2880, self.clock.duration)

    def test_joins_at_a_keyframe(self) -> None:
        """Once the rate is plain, video steps onto the grid at a keyframe, by less than two milliseconds."""
        times = every(30, 120)
        placed = place(self.clock, times, gop=45)
        self.assertEqual([time * 90 for time in times[:45]], placed[:45])
        self.assertEqual({3000}, set(distances(placed[45:])))
        self.assertLessEqual(abs(placed[45] - times[45] * 90), 180)

    def test_outlier_keeps_its_time(self) -> None:
        """A single frame 5 ms late keeps its time, and the grid stays."""
        self.on_grid()
        times = every(30, 60)
        times[30] += 5
        placed = place(self.clock, times)
        self.assertEqual(times[30] * 90, placed[30])
        self.assertEqual({3000}, set(distances(placed[31:])))
        self.assertLessEqual(abs(placed[-1] - times[-1] * 90), 180)

    def test_slow_camera_stays_on_grid(self) -> None:
        """A camera 100 ppm slow is followed on the grid for ten minutes, never further off than 2 ms."""
        self.on_grid()
        times = [round(index * 1000.1 / 30) for index in range(18_000)]
        placed = place(self.clock, times)
        self.assertIsNotNone(self.clock.grid)
        self.assertLessEqual(max(abs(dts - time * 90) for dts, time in zip(placed, times, strict=True)), 180)
        self.assertLess(sum(distance != 3000 for distance in distances(placed)), 120)

    def test_another_rate_finds_a_grid(self) -> None:
        """When the frames have left the grid, they keep their times for ten seconds, then find their new grid."""
        self.on_grid()
        times = [*every(30, 60), *every(25, 500, 2007)]
        placed = place(self.clock, times)
        self.assertEqual([time * 90 for time in times[70:300]], placed[70:300])
        self.assertEqual({3600}, set(distances(placed[360:])))

    def test_doubled_timestamp_is_a_tick_later(self) -> None:
        """A second frame at one time is a tick later, and does no harm to the grid."""
        self.on_grid()
        repairs = [self.clock.place(time * 90, 0, False) for time in (0, 33, 33, 67)]
        self.assertEqual([None, None, VideoRepair.LATE, None], repairs)
        self.assertEqual(6000, self.clock.dts)
        self.assertEqual(3000, self.clock.duration)

    def test_step_back_still_rises(self) -> None:
        """Decode times rise, even where timestamps do not."""
        placed = place(self.clock, [0, 40, 30, 35, 80])
        self.assertEqual([0, 3600, 3601, 3602, 7200], placed)

    def test_start_bounds_decode_times(self) -> None:
        """No decode time is before the start, not even by rounding."""
        clock = VideoClock(9000, (Fraction(30),), TimelinePolicy())
        clock.expect(
            [9000 + time * 90 for time in (0, 31, 64, 98, 131, 164, 198, 231, 264, 298, 331)], FrameStep(3000, 1)
        )
        clock.place(9000, 0, True)
        self.assertEqual(9000, clock.dts)

    def test_presentation_on_the_same_grid(self) -> None:
        """Presentation times are put on the same grid, each by itself; an offset may be negative."""
        self.on_grid()
        offsets = []
        for time, composition_ms in ((0, 67), (33, 134), (67, 33), (100, -33)):
            self.clock.place(time * 90, composition_ms, time == 0)
            offsets.append(self.clock.composition_offset)
        self.assertEqual([6000, 12000, 3000, -3000], offsets)

    def test_presentation_off_the_grid(self) -> None:
        """Without a grid presentation times are what they were."""
        self.clock.place(0, 40, True)
        self.assertEqual(3600, self.clock.composition_offset)
        self.clock.place(0, 80, False)
        self.assertEqual((1, 7199), (self.clock.dts, self.clock.composition_offset))

    def test_stale_presentation_at_the_keyframe(self) -> None:
        """A frame to be presented more than a second before the keyframe is presented when it is decoded."""
        self.clock.place(0, 0, True)
        self.assertIs(VideoRepair.COMPOSITION, self.clock.place(3000, -1100, False))
        self.assertEqual(0, self.clock.composition_offset)

    def test_sane_composition_is_clamped(self) -> None:
        """Offsets of more than two seconds are clamped, of more than fifteen minutes are nothing."""
        policy = TimelinePolicy()
        given = (0, -2000, 2001, -2001, 900_000, 900_001, -8_388_608)
        self.assertEqual([0, -2000, 2000, -2000, 2000, 0, 0], [sane_composition(ms, policy) for ms in given])
