"""Numbers that only rise."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.numbering import EPOCH_MS, Numbering


class NumberingTests(SynchronousTestCase):
    def test_by_the_clock(self) -> None:
        """Presentations begin at the half-seconds since 2020, in every process."""
        self.assertEqual(2_400, Numbering(lambda: EPOCH_MS + 20 * 60_000 + 499).first())

    def test_clock_set_back(self) -> None:
        """What is known to have been reached is never come back to."""
        times = [EPOCH_MS + 500_000]
        numbering = Numbering(lambda: times[0])
        numbering.reached(numbering.first() + 10)
        times[0] -= 400_000
        self.assertEqual(1_011, numbering.first())
        numbering.reached(7)
        self.assertEqual(1_011, numbering.first())
        times[0] += 600_000
        self.assertEqual(1_400, numbering.first())
