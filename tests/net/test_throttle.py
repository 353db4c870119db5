"""Who sends a file at once is held back to real time; who sends in real time never is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.throttle import LONGEST_LEAD_MS, Throttle


class ThrottleTests(SynchronousTestCase):
    def test_real_time_is_never_held(self) -> None:
        """A publisher in real time, a burst of some seconds included, is never held, be its clock fast or slow."""
        for per_million in (0, 500, -500):
            throttle = Throttle(0, 0)
            for now_ms in range(0, 3 * 86_400_000, 10_000):
                media_ms = now_ms + now_ms * per_million // 1_000_000 + (5_000 if now_ms > 60_000 else 0)
                self.assertFalse(throttle.update(media_ms, now_ms))

    def test_file_at_once(self) -> None:
        """A publisher ten times too fast is read in turns, and is never far ahead."""
        throttle, media_ms, worst_ms, held = Throttle(0, 0), 0, 0, 0
        for now_ms in range(0, 120_000, 250):
            media_ms += 0 if throttle.is_holding else 2_500
            throttle.update(media_ms, now_ms)
            held += throttle.is_holding
            worst_ms = max(worst_ms, media_ms - now_ms)
        self.assertLessEqual(worst_ms, LONGEST_LEAD_MS + 5_000)
        self.assertGreater(held, 300)
        self.assertGreater(media_ms, 115_000)

    def test_change_is_told(self) -> None:
        """Both ways, the change is reported once."""
        throttle = Throttle(0, 0)
        told = [throttle.update(*moment) for moment in ((0, 0), (20_000, 100), (20_000, 200), (20_000, 13_000))]
        self.assertEqual([False, True, False, True], told)
