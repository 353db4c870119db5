"""The constants of a playlist: whole numbers of frames where there is a grid, and room where there is none."""

from __future__ import annotations

from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.targets import choose_constants
from rapidrtmp.interfaces import Constants, Cutting


def starts_of(rate: Fraction, seconds: int = 2) -> list[int]:
    """Decode times of a GOP at a frame rate, and of the keyframe behind it."""
    return [round(number * 90_000 / rate) for number in range(round(rate * seconds) + 1)]


class PartTargetTests(SynchronousTestCase):
    def test_grids_of_whole_frames(self) -> None:
        """A part is a whole number of frames, rounded up to a millisecond: never shorter than the frames it holds."""
        for rate, part_target_ms in (
            (Fraction(30), 334),
            (Fraction(30_000, 1001), 334),
            (Fraction(24_000, 1001), 334),
            (Fraction(25), 320),
            (Fraction(50), 340),
            (Fraction(60), 334),
            (Fraction(10), 300),
            (Fraction(2), 500),
        ):
            constants = choose_constants(Cutting(), 90_000, starts_of(rate), 180_000)
            self.assertEqual(part_target_ms, constants.part_target_ms, rate)

    def test_audio_is_a_grid(self) -> None:
        """Audio alone is a grid as well."""
        for sample_rate, part_target_ms in ((48_000, 342), (44_100, 326)):
            starts = [0, 1_024]
            self.assertEqual(part_target_ms, choose_constants(Cutting(), sample_rate, starts, None).part_target_ms)

    def test_no_grid_has_a_margin(self) -> None:
        """Off a grid a part is so long that one frame more or less stays above 85 %, but no longer than a second."""
        jittery = [0, 3_000, 5_000, 9_000, 12_000]
        self.assertEqual(333, choose_constants(Cutting(), 90_000, jittery, 180_000).part_target_ms)
        slow = [0, 9_000, 19_000, 27_000]
        self.assertEqual(667, choose_constants(Cutting(), 90_000, slow, 180_000).part_target_ms)
        slower = [0, 40_000, 90_000]
        self.assertEqual(1_000, choose_constants(Cutting(), 90_000, slower, 180_000).part_target_ms)

    def test_without_parts_no_target(self) -> None:
        """No parts, no target."""
        self.assertEqual(0, choose_constants(Cutting(part_ms=0), 90_000, [0, 3_000], 180_000).part_target_ms)


class TargetDurationTests(SynchronousTestCase):
    def test_gops_make_up_the_length(self) -> None:
        """As many whole GOPs as make up the wanted length, rounded."""
        for gop_ms, segment_ms, target_s in (
            (500, 2_000, 2),
            (1_000, 2_000, 2),
            (2_000, 2_000, 2),
            (2_002, 2_000, 2),
            (1_984, 2_000, 2),
            (1_900, 2_000, 4),
            (1_300, 2_000, 3),
            (4_000, 2_000, 4),
            (10_000, 2_000, 10),
            (2_000, 6_000, 6),
            (1_000, 1_000, 1),
        ):
            constants = choose_constants(Cutting(segment_ms), 90_000, starts_of(Fraction(30)), gop_ms * 90)
            self.assertEqual(target_s, constants.target_s, (gop_ms, segment_ms))
            self.assertEqual(target_s * 1_000 + 499, constants.longest_segment_ms)

    def test_first_gop_is_a_moment_short(self) -> None:
        """Pictures squeezed together at the start, or jitter, do not make segments of one GOP more than is right."""
        for rate in (25, 30, 50):
            frame = 90_000 // rate
            for gop_s, target_s in ((Fraction(1, 2), 2), (1, 2), (2, 2), (3, 3), (4, 4)):
                for squeezed in (1, 2, 3):
                    short = squeezed * frame - squeezed
                    later = [start - short for start in starts_of(Fraction(rate), 5)[squeezed + 1 :]]
                    gop = round(gop_s * 90_000) - short
                    starts = [*range(squeezed + 1), *(start for start in later if start <= gop)]
                    constants = choose_constants(Cutting(), 90_000, starts, gop)
                    self.assertEqual(target_s, constants.target_s, (rate, gop_s, squeezed))
                    self.assertEqual(
                        choose_constants(Cutting(), 90_000, starts_of(Fraction(rate)), 180_000).part_target_ms,
                        constants.part_target_ms,
                    )
        for gop_ms in (1_930, 1_960, 950, 970, 2_040):
            starts = [number * 3_600 + number % 3 * 400 for number in range(50)]
            self.assertEqual(2, choose_constants(Cutting(), 90_000, starts, gop_ms * 90).target_s, gop_ms)

    def test_audio_without_gops_as_wanted(self) -> None:
        """Without GOPs a segment is as long as wanted."""
        self.assertEqual(2, choose_constants(Cutting(), 48_000, [0, 1_024], None).target_s)

    def test_one_frame_has_constants(self) -> None:
        """A stream of one frame has constants as well."""
        self.assertEqual(Constants(2, 334), choose_constants(Cutting(), 90_000, [0], None))
        self.assertEqual(Constants(2, 334), choose_constants(Cutting(), 90_000, [], None))
