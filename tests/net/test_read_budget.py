"""The share of a reactor turn that all budgeted connections have together."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.read_budget import BudgetedReader, ReadBudget


class Reader(BudgetedReader):
    """A connection that needs so many milliseconds (of 1024 a second, for exact sums), and makes the clock show it."""

    def __init__(self, name: str, needs: int, diary: list[str], clock: Clock) -> None:
        self.name = name
        self.used_s = 0.0
        self._left = needs
        self._diary = diary
        self._clock = clock

    def read_until(self, until_s: float) -> bool:
        while self._left:
            self._left -= 1
            self._clock.rightNow += 1 / 1024
            self._diary.append(self.name)
            if self._clock.seconds() >= until_s:
                break
        return not self._left

    def pause_reading(self) -> None:
        self._diary.append(f"pause {self.name}")

    def resume_reading(self) -> None:
        self._diary.append(f"resume {self.name}")


class ReadBudgetTests(SynchronousTestCase):
    """Which connection is read when."""

    def setUp(self) -> None:
        """Turns of two milliseconds."""
        self.clock = Clock()
        self.diary: list[str] = []
        self.budget = ReadBudget(self.clock, turn_s=2 / 1024)

    def reader(self, name: str, needs: int) -> Reader:
        return Reader(name, needs, self.diary, self.clock)

    def next_turn(self) -> list[str]:
        """What happens in the next turn; there is none if no connection waits."""
        self.diary.clear()
        if self.clock.calls:  # this one alone, and not all that it leads to, as ``advance`` would
            self.clock.calls.pop(0).func()
        return list(self.diary)

    def test_reads_at_once_when_alone(self) -> None:
        """Where no other connection waits, one is read as it comes, and never paused."""
        self.budget.serve(self.reader("a", 1))
        self.assertEqual(["a"], self.diary)
        self.assertEqual([], self.next_turn())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_turn_is_bounded_in_time(self) -> None:
        """However much there is to be read of however many, a turn takes no longer than it may."""
        for name in "abc":
            self.budget.serve(self.reader(name, 3))
        self.assertEqual(["a", "a", "pause a", "pause b", "pause c"], self.diary)
        self.assertEqual(["b", "b"], self.next_turn())
        self.assertEqual(["c", "c"], self.next_turn())
        self.assertEqual(["a", "resume a", "b", "resume b"], self.next_turn())
        self.assertEqual(["c", "resume c"], self.next_turn())
        self.assertEqual((0, []), (len(self.budget), self.next_turn()))

    def test_least_used_first(self) -> None:
        """A newcomer that needs little does not wait behind those that have had a lot."""
        greedy = [self.reader(name, 1000) for name in "abcd"]
        for each in greedy:
            self.budget.serve(each)
        for _ in range(8):
            self.next_turn()
        self.budget.serve(self.reader("new", 1))
        self.assertEqual(["new", "resume new"], self.next_turn()[:2])

    def test_failure_of_one_is_its_own(self) -> None:
        """A connection whose reading raises is not read again, and the others have their turns."""

        class Broken(Reader):
            def read_until(self, until_s: float) -> bool:
                raise ValueError(self.name)

        self.assertRaises(ValueError, self.budget.serve, Broken("broken", 1, self.diary, self.clock))
        self.budget.serve(self.reader("a", 1))
        self.assertEqual(["a"], self.diary)
