from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.timeline.pace import Pace
from tests.slow import slow


class PaceTests(SynchronousTestCase):
    def make(self, seconds: int, *, speed: float = 1.0, jitter_ms: int = 0, step_ms: int = 20) -> Pace:
        """A track of that length whose publisher has that speed and whose frames are late by up to so much."""
        pace, chance = Pace(), random.Random(4)
        pace.restart(0, 0)
        for time_ms in range(0, seconds * 1000, step_ms):
            pace.note(time_ms, int(time_ms / speed) + chance.randint(0, jitter_ms))
        return pace

    def test_real_time_leads_nothing(self) -> None:
        """A publisher in real time leads by nothing, whatever the network adds."""
        for jitter_ms in (0, 80):
            pace = self.make(120, jitter_ms=jitter_ms)
            self.assertTrue(-2 <= pace.lead_ms <= 0, pace.lead_ms)
            self.assertTrue(abs(pace.drift_ms) <= 4, pace.drift_ms)

    def test_in_a_hurry(self) -> None:
        """One that sends a file twice as fast gains a second a second."""
        pace = self.make(120, speed=2.0)
        self.assertTrue(59_900 <= pace.lead_ms <= 60_000, pace.lead_ms)
        self.assertTrue(59_000 <= pace.drift_ms <= 61_000, pace.drift_ms)

    def test_slow_clock_loses_time(self) -> None:
        """A clock 500 ppm slow loses 30 ms a minute."""
        pace = self.make(600, speed=0.9995)
        # Furthest ahead of the last half a minute, 15 ms ago.
        self.assertTrue(-300 <= pace.lead_ms <= -280, pace.lead_ms)
        self.assertTrue(-32 <= pace.drift_ms <= -28, pace.drift_ms)

    def test_clock_drift_is_steady(self) -> None:
        """A slow clock loses time all the time; a machine that is busy for a while delays what comes then."""
        self.assertTrue(-32 <= self.make(600, speed=0.9995).clock_drift_ms <= -28)
        self.assertEqual(0, self.make(60, speed=0.9995).clock_drift_ms, "too early to tell")
        for delays in ((0, 0, 40, 40, 40, 40, 40, 40, 40), (0, 10, 20, 40, 10, 30, 40, 50, 60)):
            pace = Pace()
            pace.restart(0, 0)
            for time_ms in range(0, 90_000, 40):
                pace.note(time_ms, time_ms + delays[time_ms // 10_000])
            self.assertNotEqual(0, pace.drift_ms)
            self.assertEqual(0, pace.clock_drift_ms)

    @slow
    def test_t15_day_of_a_fast_clock(self) -> None:
        """T15: a clock 200 ppm fast has gained 17.28 s after a day, and 12 ms in the last minute."""
        pace = self.make(86_400, speed=1.0002, step_ms=200)
        self.assertTrue(17_270 <= pace.lead_ms <= 17_280, pace.lead_ms)
        self.assertTrue(10 <= pace.drift_ms <= 14, pace.drift_ms)

    def test_too_early_to_tell(self) -> None:
        """Drift is known after half a minute, the lead from the first frame on."""
        self.assertEqual((0, 0, 0), (Pace().lead_ms, Pace().drift_ms, Pace().jitter_ms))
        pace = self.make(29, speed=2.0)
        self.assertEqual(0, pace.drift_ms)
        self.assertGreater(pace.lead_ms, 14_000)

    def test_jitter_is_a_mean_difference(self) -> None:
        """Jitter is the mean difference of two arrivals' distance from that of their frames."""
        self.assertEqual(0, self.make(20).jitter_ms)
        self.assertTrue(20 <= self.make(20, jitter_ms=90).jitter_ms <= 40)

    def test_stall_is_caught_up(self) -> None:
        """While a burst catches up after a stall, what is due is reckoned from before it."""
        pace = self.make(60)
        pace.note(60_000, 72_000)
        self.assertEqual(-12_000, pace.lead_at(72_000))
        self.assertEqual(60_000, pace.due_ms(60_000))

    def test_restart_keeps_the_lead(self) -> None:
        """Beginning anew on another clock keeps the lead that is asked for."""
        pace = self.make(60)
        self.assertTrue(pace.has_begun)
        pace.restart(1_000_000 - 70_000 - 250, 70_000)
        self.assertFalse(pace.has_begun)
        pace.note(1_000_000, 70_000)
        self.assertEqual((250, 0), (pace.lead_ms, pace.drift_ms))
