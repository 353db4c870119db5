from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from math import floor

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.timeline.frame_rate import COMMON_RATES, FrameStep, Grid, claimed_rate, fit_grid
from rapidrtmp.timeline.policy import TimelinePolicy
from tests.codec.builders import every


def fit(times_ms: Sequence[int], claims: Sequence[Fraction] = ()) -> Grid | None:
    return fit_grid([time * 90 for time in times_ms], claims, TimelinePolicy())


class FrameStepTests(SynchronousTestCase):
    def test_places_at_fractional_rates(self) -> None:
        """At 23.976 frames a second durations are 3753 or 3754 ticks, and an hour of them is exact."""
        step = FrameStep.of_rate(Fraction(24_000, 1001))
        self.assertEqual([0, 3754, 7508, 11261, 15015], [step.ticks(index) for index in range(5)])
        self.assertEqual(3600 * 1001 * 90, step.ticks(86_400))

    def test_nearest_place_of_a_time(self) -> None:
        """Every place is nearest to itself and to half a step around."""
        step = FrameStep(15015, 4)
        for index in (-3, 0, 1, 7, 10**7):
            self.assertEqual([index] * 3, [step.nearest(step.ticks(index) + off) for off in (-1870, 0, 1870)])


class ClaimedRateTests(SynchronousTestCase):
    def test_decimals_mean_their_fractions(self) -> None:
        """29.97 means 30000/1001, and 23.98 means 24000/1001."""
        self.assertEqual(Fraction(30_000, 1001), claimed_rate(Fraction(2997, 100)))
        self.assertEqual(Fraction(24_000, 1001), claimed_rate(Fraction(2398, 100)))

    def test_odd_rates_are_tried(self) -> None:
        """A rate that nothing else has is tried as it is, an absurd one is not."""
        self.assertEqual(Fraction(17), claimed_rate(Fraction(17)))
        self.assertIsNone(claimed_rate(Fraction(1000)))
        self.assertIsNone(claimed_rate(Fraction(0)))


class FitGridTests(SynchronousTestCase):
    def test_every_common_rate(self) -> None:
        """After two seconds every common rate is distinguished from every other, however the encoder rounds."""
        for rate in COMMON_RATES:
            count = max(40, min(241, int(rate * 2) + 2))
            for times in (every(rate, count, 7), [floor(index * 1000 / rate) for index in range(count)]):
                grid = fit(times)
                self.assertIsNotNone(grid, rate)
                assert grid is not None
                self.assertEqual(FrameStep.of_rate(rate), grid.step)
                self.assertEqual(times[0] * 90, grid.anchor)

    def test_thirty_deltas_are_needed(self) -> None:
        """29.97 and 30 are distinguished by 30 distances, not by 29."""
        for rate in (Fraction(30), Fraction(30_000, 1001)):
            grid = fit(every(rate, 31))
            assert grid is not None
            self.assertEqual(FrameStep.of_rate(rate), grid.step)
            self.assertIsNone(fit(every(rate, 30)))

    def test_claim_is_believed_after_ten(self) -> None:
        """A claim is believed after ten distances that agree, and not when they do not."""
        grid = fit(every(50, 11), [Fraction(25), Fraction(50)])
        assert grid is not None
        self.assertEqual(FrameStep(1800, 1), grid.step)
        self.assertIsNone(fit(every(50, 10), [Fraction(50)]))
        self.assertIsNone(fit(every(50, 11), [Fraction(25), Fraction(100)]))

    def test_false_claim_is_beaten(self) -> None:
        """The numbers of two seconds beat a claim that is almost right."""
        grid = fit(every(Fraction(30_000, 1001), 61), [Fraction(30)])
        assert grid is not None
        self.assertEqual(FrameStep(3003, 1), grid.step)

    def test_dropped_frames_leave_places(self) -> None:
        """Missing frames leave places free; too many of them say that the rate is another."""
        times = every(30, 60)
        grid = fit(times[:20] + times[23:40] + times[41:])
        assert grid is not None
        self.assertEqual(FrameStep(3000, 1), grid.step)
        self.assertEqual(FrameStep(6000, 1), getattr(fit(times[::2] + every(15, 10, 2000)), "step", None))

    def test_variable_rate_has_no_grid(self) -> None:
        """Frames that come when they like are on no grid."""
        chance = random.Random(3)
        for _ in range(20):
            time, times = 0, []
            for _ in range(120):
                time += chance.randrange(20, 50)
                times.append(time)
            self.assertIsNone(fit(times))

    def test_doubled_timestamps_have_no_grid(self) -> None:
        """Two frames at one time are on no grid."""
        self.assertIsNone(fit([time for time in every(30, 40) for _ in range(2)]))

    def test_clamped_start_hides_no_rate(self) -> None:
        """Decode times before 0 that a muxer has put at 0 do not hide the frame rate of those that follow."""
        times = [max(0, floor(index * 1000 / 30)) for index in range(-2, 60)]
        self.assertEqual(Grid(FrameStep(3000, 1), 0), fit(times))
        self.assertEqual(Grid(FrameStep(3000, 1), 0), fit(times[:14], [Fraction(30)]))
        self.assertIsNone(fit([0] * 60))

    def test_anchor_of_jitter(self) -> None:
        """A first frame that was off by itself does not pull the grid with it."""
        times = every(25, 60, 100)
        times[0] += 2
        self.assertEqual(Grid(FrameStep(3600, 1), 9090), fit(times))
