"""Who goes when there are too many."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.guests import Guests, Stage


@dataclass(eq=False)
class Visitor:
    """A guest."""

    origin: str
    stage: Stage = Stage.SILENT


class GuestsTests(SynchronousTestCase):
    """The order in which guests make room."""

    def setUp(self) -> None:
        """A house to fill."""
        self.guests: Guests[Visitor] = Guests()

    def come(self, *origins: str) -> list[Visitor]:
        """Guests come, one from each of ``origins``."""
        visitors = [Visitor(origin) for origin in origins]
        for visitor in visitors:
            self.guests.add(visitor)
        return visitors

    def all_go(self) -> list[Visitor]:
        """Everybody, in the order they make room."""
        gone = []
        while (guest := self.guests.first_to_go()) is not None:
            gone.append(guest)
            self.guests.remove(guest)
        return gone

    def test_crowd_first(self) -> None:
        """While one origin has more than a few, one of its own goes, whoever else has waited longer."""
        old, *crowd = self.come("a", *"bbbbbbb")
        for guest in crowd:
            self.guests.reached(guest, Stage.READY)
        self.assertEqual([*crowd[:3], old, *crowd[3:]], self.all_go())
        self.assertEqual(0, len(self.guests))

    def test_least_far_first(self) -> None:
        """Of guests from everywhere those go first that have got least far, and of these who has waited longest."""
        first, second, third, fourth = self.come(*"abcd")
        self.guests.reached(first, Stage.READY)
        self.guests.reached(third, Stage.HANDSHAKING)
        self.assertEqual([second, fourth, third, first], self.all_go())

    def test_least_far_of_a_crowd(self) -> None:
        """So it is within a crowd."""
        crowd = self.come(*"aaaaaa")
        self.guests.reached(crowd[0], Stage.HANDSHAKING)
        self.assertIs(crowd[1], self.guests.first_to_go())

    def test_of_one_origin(self) -> None:
        """Where one origin has too many, one of its own goes."""
        a, b = self.come("a", "b")
        self.assertEqual([a, b, None], [self.guests.first_to_go(origin) for origin in "abc"])

    def test_counted_once(self) -> None:
        """Coming or leaving twice counts once, and progress of one that is no guest makes it none."""
        (guest,) = self.come("a")
        self.guests.add(guest)
        self.assertEqual((1, [guest]), (len(self.guests), list(self.guests)))
        for _ in range(2):
            self.guests.remove(guest)
            self.assertEqual(0, len(self.guests))
        self.guests.reached(guest, Stage.READY)
        self.assertNotIn(guest, self.guests)
        self.assertIsNone(self.guests.first_to_go())
