"""Clocks that nothing on the host disturbs."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.clock import SteadyClock, now_ms


class ClockTests(SynchronousTestCase):
    def test_now(self) -> None:
        """A reactor's seconds as whole milliseconds."""
        clock = Clock()
        clock.advance(1.2345)
        self.assertEqual(1_234, now_ms(clock))

    def test_steps_of_the_host(self) -> None:
        """A step of the host's clock changes nothing; time goes on with the monotonic clock."""
        clock, time_of_day = Clock(), [1_767_225_600.0]
        steady = SteadyClock(clock.seconds, lambda: time_of_day[0])
        self.assertEqual(1_767_225_600_000, steady.utc_ms())
        time_of_day[0] += 30
        clock.advance(1.5)
        self.assertEqual(1_767_225_601_500, steady.utc_ms())
