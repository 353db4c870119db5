"""Dates follow the earliest arrival, survive jitter, and drift back into truth in small steps."""

from __future__ import annotations

import random
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.wall_clock import LONGEST_STEP_MS, STEP_INTERVAL_MS, TOLERANCE_MS, WINDOW_MS, WallClockMap
from tests.slow import slow

DAY_MS, EPOCH_MS = 86_400_000, 1_767_225_600_000


class WallClockMapTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.map = WallClockMap()

    def test_nothing_observed_no_date(self) -> None:
        """Before the first frame there is no date."""
        self.assertIsNone(self.map.utc_ms(5))

    def test_first_frame_is_dated(self) -> None:
        """The first frame is dated by its arrival, and the rest by their distance to it."""
        self.map.observe(40, 1_000_000, 0)
        self.assertEqual([1_000_000, 1_000_960], [self.map.utc_ms(40), self.map.utc_ms(1000)])

    def test_slow_start_dates_nothing_ahead(self) -> None:
        """An encoder that delivers its first frame late does not date the rest into the future."""
        for media_ms, utc_ms in ((0, 10_550), (33, 10_551), (66, 10_560), (1000, 11_000)):
            self.map.observe(media_ms, utc_ms, utc_ms)
        self.assertEqual(11_000, self.map.utc_ms(1000))

    def test_dates_are_final(self) -> None:
        """Once a date was given out, a frame that arrives a little early or late changes no other."""
        self.map.observe(0, 1000, 0)
        before = self.map.utc_ms(7000)
        self.map.observe(33, 1010, 10)
        self.map.observe(66, 1500, 500)
        self.assertEqual(before, self.map.utc_ms(7000))

    def test_jitter_moves_no_dates(self) -> None:
        """Delays of half a second, as long as some frames come in time, move nothing in an hour."""
        source = random.Random(1)
        self.map.observe(0, 0, 0)
        self.map.utc_ms(0)
        for media_ms in range(0, 3_600_000, 250):
            arrived_ms = media_ms + source.choice((0, 20, 100, 500))
            self.map.observe(media_ms, arrived_ms, arrived_ms)
        self.assertEqual(0, self.map.corrections_ms)

    @slow
    def test_drift_of_a_day(self) -> None:
        """A publisher's clock that is 200 ppm slow or fast is followed all day, in steps under a second."""
        for per_million in (200, -200):
            dates = WallClockMap()
            worst_ms, steps = 0, []
            last_offset = dates.utc_ms(0)
            for media_ms in range(0, DAY_MS, 1000):
                utc_ms = media_ms + media_ms * per_million // 1_000_000
                dates.observe(media_ms, utc_ms, utc_ms)
                date = dates.utc_ms(media_ms)
                worst_ms = max(worst_ms, abs(date - utc_ms))
                if last_offset is not None and date - media_ms != last_offset:
                    steps.append(date - media_ms - last_offset)
                last_offset = date - media_ms
            self.assertLessEqual(worst_ms, TOLERANCE_MS + WINDOW_MS * 200 // 1_000_000 + 10)
            self.assertTrue(steps)
            self.assertLessEqual(max(map(abs, steps)), LONGEST_STEP_MS)
            self.assertLessEqual(abs(DAY_MS * per_million // 1_000_000 - dates.corrections_ms), 250)

    def test_sudden_shift_is_followed_slowly(self) -> None:
        """A delay that comes to stay is followed in steps that are far enough apart, until the dates are true again."""
        self.map.observe(0, 0, 0)
        self.map.utc_ms(0)
        moved = []
        for media_ms in range(0, 300_000, 200):
            before = self.map.corrections_ms
            arrived_ms = media_ms + (5_000 if media_ms > 10_000 else 0)
            self.map.observe(media_ms, arrived_ms, arrived_ms)
            if self.map.corrections_ms != before:
                moved.append(media_ms)
        self.assertLessEqual(abs(5_000 - self.map.corrections_ms), TOLERANCE_MS)
        self.assertGreaterEqual(min(b - a for a, b in pairwise(moved)), STEP_INTERVAL_MS)

    def test_time_of_day_is_set(self) -> None:
        """A time of day that is set in either direction is followed as slowly, and dates never run backwards."""
        for set_by_ms in (-20_000, 120_000):
            dates, moved, given = WallClockMap(), [], []
            for media_ms in range(0, 3_000_000, 200):
                before = dates.corrections_ms
                dates.observe(media_ms, EPOCH_MS + media_ms + (set_by_ms if media_ms >= 60_000 else 0), media_ms)
                given.append(dates.utc_ms(media_ms))
                if dates.corrections_ms != before:
                    moved.append(media_ms)
                    self.assertLessEqual(abs(dates.corrections_ms - before), LONGEST_STEP_MS)
            self.assertLessEqual(abs(set_by_ms - dates.corrections_ms), TOLERANCE_MS)
            self.assertGreaterEqual(min(b - a for a, b in pairwise(moved)), STEP_INTERVAL_MS)
            self.assertEqual(sorted(given[::5]), given[::5], "a second's media is longer than a step")
