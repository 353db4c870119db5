"""How long a node may own what it owns: with the directory down it stays, cut off it steps down in time."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cluster.tenure import Sight, Tenure, is_directory_down

REACHED, DOWN, GONE, SILENT = Sight.REACHED, Sight.DOWN, Sight.GONE, Sight.SILENT


class SightTests(SynchronousTestCase):
    def test_directory_is_down(self) -> None:
        """It is down for a node that is alone, and where more than half of those that live say so."""
        for seen in ([], [GONE], [DOWN], [DOWN, SILENT], [DOWN, DOWN, SILENT, SILENT], [GONE, GONE, DOWN]):
            self.assertTrue(is_directory_down(seen), seen)

    def test_node_is_cut_off(self) -> None:
        """A node is cut off where another one reaches the directory, or half of them or more are silent."""
        for seen in ([REACHED], [DOWN, DOWN, REACHED], [SILENT], [GONE, SILENT], [DOWN, SILENT, SILENT]):
            self.assertFalse(is_directory_down(seen), seen)


class TenureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.asleep_s = 0.0
        self.ends: list[bool] = []
        self.tenure = Tenure(self.clock, lambda: self.clock.seconds() + self.asleep_s, self.ends.append)

    def test_steps_down_in_time(self) -> None:
        """Without a renewal it ends two seconds before the leases do, when all can still be stored."""
        self.tenure.begin(6, 0)
        self.clock.pump([2, 1.9])
        self.assertEqual([], self.ends)
        self.assertTrue(self.tenure.is_valid())
        self.clock.advance(0.2)
        self.assertEqual([False], self.ends)

    def test_renewals_and_outages_extend(self) -> None:
        """A renewal counts from when it was asked for; so does the word of others that the directory is down."""
        self.tenure.begin(6, 0)
        for _ in range(4):
            self.clock.advance(2)
            self.tenure.renewed(self.clock.seconds() - 0.5)
        for _ in range(10):
            self.clock.advance(2)
            self.tenure.confirmed(self.clock.seconds() - 0.5)
        self.assertEqual([], self.ends)
        self.clock.advance(3.6)
        self.assertEqual([False], self.ends)

    def test_machine_that_was_suspended(self) -> None:
        """After a machine slept for longer than leases last nothing is valid, whatever comes first; it is too late."""
        self.tenure.begin(6, 0)
        self.clock.advance(1)
        self.asleep_s = 10
        self.assertFalse(self.tenure.is_valid())
        self.clock.advance(0)
        self.assertEqual([True], self.ends)

    def test_directory_without_leases(self) -> None:
        """Where nodes own what they own as long as they live, nothing ends."""
        self.tenure.begin(0, 0)
        self.tenure.renewed(0)
        self.tenure.confirmed(0)
        self.clock.advance(1000)
        self.assertTrue(self.tenure.is_valid())
        self.assertEqual(([], []), (self.ends, self.clock.getDelayedCalls()))

    def test_stopped_node_expects_nothing(self) -> None:
        """A node that stops leaves no timer."""
        self.tenure.begin(6, 0)
        self.tenure.close()
        self.assertEqual([], self.clock.getDelayedCalls())
