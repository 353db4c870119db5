from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.timeline.unwrap import WireClock, clock_step


class ClockStepTests(SynchronousTestCase):
    def test_wrap_of_32_bits(self) -> None:
        """At 2^32 the clock continues, and back again for a frame from before the wrap."""
        self.assertEqual(21, clock_step(0xFFFFFFF0, 5))
        self.assertEqual(-21, clock_step(5, 0xFFFFFFF0))

    def test_wrap_of_31_bits(self) -> None:
        """A clock whose top bit was masked continues at 2^31, in both directions."""
        self.assertEqual(32, clock_step(0x7FFFFFF0, 0x10))
        self.assertEqual(-32, clock_step(0x10, 0x7FFFFFF0))

    def test_crossing_31_bits(self) -> None:
        """A whole clock crosses 2^31 without noticing."""
        self.assertEqual(32, clock_step(0x7FFFFFF0, 0x80000010))

    def test_wrap_of_24_bits(self) -> None:
        """A clock of 24 bits continues after 4 h 39 min 37 s, in both directions."""
        self.assertEqual(33, clock_step(0xFFFFFF - 20, 12))
        self.assertEqual(-33, clock_step(12, 0xFFFFFF - 20))

    def test_crossing_24_bits(self) -> None:
        """A whole clock crosses 2^24 without noticing."""
        self.assertEqual(33, clock_step(0xFFFFFF - 20, 0xFFFFFF + 13))

    def test_restart_is_no_wrap(self) -> None:
        """A step back that only somewhat resembles a wrap stays one."""
        self.assertEqual(-0x1000000 - 1000, clock_step(0x1000000 + 1000, 0))
        self.assertEqual(-3_600_000, clock_step(3_600_000, 0))

    @given(st.integers(0, 2**32 - 1), st.integers(-(10**7), 10**7))
    def test_small_steps_are_what_they_seem(self, before: int, step: int) -> None:
        """Whatever the clock shows, a step of less than three hours is what it seems."""
        self.assertEqual(step, clock_step(before, (before + step) % 2**32))


class WireClockTests(SynchronousTestCase):
    def test_first_timestamp_is_taken(self) -> None:
        """The first timestamp is taken as it is."""
        self.assertEqual(0xFFFFFFF0, WireClock().unwrap(0xFFFFFFF0))

    def test_goes_on_after_a_wrap_of_31_bits(self) -> None:
        """Steps are between timestamps as sent, so the one after a wrap is right again."""
        clock = WireClock()
        times = [clock.unwrap(timestamp) for timestamp in (0x7FFFFFF0, 0x10, 0x31, 0x7FFFFFFF, 0x52)]
        self.assertEqual([0, 32, 65, 15, 98], [time - times[0] for time in times])

    def test_months_of_wraps_add_up(self) -> None:
        """Wraps add up: a stream of four months never goes back."""
        clock = WireClock()
        self.assertEqual([*range(0, 10**10, 10**7)], [clock.unwrap(time % 2**32) for time in range(0, 10**10, 10**7)])
