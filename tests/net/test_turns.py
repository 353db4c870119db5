"""A few milliseconds for all guests together."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.turns import Turns


class Caller:
    """A visitor that needs so many milliseconds (of 1024 a second, for exact sums), and makes the clock show it."""

    def __init__(self, name: str, needs: int, diary: list[str], clock: Clock) -> None:
        self.name = name
        self.used_s = 0.0
        self._left = needs
        self._diary = diary
        self._clock = clock

    def go_on(self, until_s: float) -> bool:
        while self._left:
            self._left -= 1
            self._clock.rightNow += 1 / 1024
            self._diary.append(self.name)
            if self._clock.seconds() >= until_s:
                break
        return not self._left

    def hold(self) -> None:
        self._diary.append(f"hold {self.name}")

    def release(self) -> None:
        self._diary.append(f"release {self.name}")


class TurnsTests(SynchronousTestCase):
    """Who is read when."""

    def setUp(self) -> None:
        """Turns of two milliseconds."""
        self.clock = Clock()
        self.diary: list[str] = []
        self.turns = Turns(self.clock, turn_s=2 / 1024)

    def caller(self, name: str, needs: int) -> Caller:
        return Caller(name, needs, self.diary, self.clock)

    def next_turn(self) -> list[str]:
        """What happens in the next turn; there is none if nobody waits."""
        self.diary.clear()
        if self.clock.calls:  # this one alone, and not all that it leads to, as ``advance`` would
            self.clock.calls.pop(0).func()
        return list(self.diary)

    def test_at_once(self) -> None:
        """Where nobody else asks for anything, a guest is read as it comes, and never held."""
        self.turns.serve(self.caller("a", 1))
        self.assertEqual(["a"], self.diary)
        self.assertEqual([], self.next_turn())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_bounded(self) -> None:
        """However much there is to be read of however many, a turn takes no longer than it may."""
        for name in "abc":
            self.turns.serve(self.caller(name, 3))
        self.assertEqual(["a", "a", "hold a", "hold b", "hold c"], self.diary)
        self.assertEqual(["b", "b"], self.next_turn())
        self.assertEqual(["c", "c"], self.next_turn())
        self.assertEqual(["a", "release a", "b", "release b"], self.next_turn())
        self.assertEqual(["c", "release c"], self.next_turn())
        self.assertEqual((0, []), (len(self.turns), self.next_turn()))

    def test_least_used_first(self) -> None:
        """A newcomer that needs little does not wait behind those who have had a lot."""
        greedy = [self.caller(name, 1000) for name in "abcd"]
        for each in greedy:
            self.turns.serve(each)
        for _ in range(8):
            self.next_turn()
        self.turns.serve(self.caller("new", 1))
        self.assertEqual(["new", "release new"], self.next_turn()[:2])

    def test_a_failure(self) -> None:
        """A guest whose reading raises is not asked again, and the others have their turns."""

        class Broken(Caller):
            def go_on(self, until_s: float) -> bool:
                raise ValueError(self.name)

        self.assertRaises(ValueError, self.turns.serve, Broken("broken", 1, self.diary, self.clock))
        self.turns.serve(self.caller("a", 1))
        self.assertEqual(["a"], self.diary)
