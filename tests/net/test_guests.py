"""Who goes when there are too many."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.guests import Guests


@dataclass(eq=False)
class Visitor:
    """A guest."""

    origin: str
    opened_ms: int


class GuestsTests(SynchronousTestCase):
    """The order in which guests make room."""

    def setUp(self) -> None:
        """Three from one origin, and an older one from another."""
        self.old = Visitor("a", 0)
        self.crowd = [Visitor("b", number) for number in (1, 2, 3)]
        self.guests = Guests()
        for guest in (self.old, *self.crowd):
            self.guests.add(guest)

    def test_crowd_first(self) -> None:
        """The longest-waiting of the origin that has most of them goes, whoever else has waited longer."""
        gone = []
        while (guest := self.guests.first_to_go()) is not None:
            gone.append(guest)
            self.guests.remove(guest)
        self.assertEqual([self.crowd[0], self.crowd[1], self.old, self.crowd[2]], gone)
        self.assertEqual(0, len(self.guests))

    def test_of_one_origin(self) -> None:
        """Where one origin has too many, one of its own goes."""
        self.assertIs(self.old, self.guests.first_to_go("a"))
        self.assertIs(self.crowd[0], self.guests.first_to_go("b"))
        self.assertIsNone(self.guests.first_to_go("c"))

    def test_counted_once(self) -> None:
        """Coming or leaving twice counts once, and a guest that returns is the newest."""
        self.guests.add(self.old)
        self.assertEqual(4, len(self.guests))
        self.guests.remove(self.crowd[0])
        self.guests.remove(self.crowd[0])
        self.assertEqual(3, len(self.guests))
        self.guests.add(self.crowd[0])
        self.assertIs(self.crowd[1], self.guests.first_to_go("b"))
        self.assertEqual({self.old, *self.crowd}, set(self.guests))
