"""Long answers are made one at a time, in slices, once, and kept while there is room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.http.long_work import MOST_WAITING, SLICE_S, LongWork
from rapidrtmp.interfaces import UnavailableError
from rapidrtmp.support.steps import Steps, finish


class LongWorkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.work = LongWork(self.clock, most_bytes=100)
        self.done: list[str] = []

    def steps(self, name: str, slices: int = 3) -> Steps[str]:
        """Takes so many slices."""
        for _ in range(slices):
            self.clock.rightNow += SLICE_S  # a step that takes long
            self.done.append(name)
            for _ in range(16):
                yield
        return name.upper()

    def begin(self, coroutine: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(coroutine)

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(0)

    def test_slices_give_the_reactor_turns(self) -> None:
        """Between two slices the reactor has its turn."""
        result = self.begin(self.work.do(self.steps("a")))
        self.assertNoResult(result)
        self.clock.callLater(0, self.done.append, "the reactor's")
        self.turns(1)
        self.assertEqual(["a", "a", "the reactor's", "a"], self.done)
        self.assertEqual("A", self.successResultOf(result))

    def test_one_at_a_time(self) -> None:
        """What is asked for meanwhile begins when the first is done."""
        results = [self.begin(self.work.do(self.steps(name))) for name in "ab"]
        self.turns(20)
        self.assertEqual(["A", "B"], [self.successResultOf(each) for each in results])
        self.assertEqual(list("aaabbb"), self.done)

    def test_once_for_all_who_ask(self) -> None:
        """Of those who want the same all get what was made once, also later."""
        results = [self.begin(self.work.once("k", lambda: self.steps("a"), len)) for _ in range(3)]
        self.turns(20)
        results.append(self.begin(self.work.once("k", lambda: self.steps("a"), len)))
        self.assertEqual(["A"] * 4, [self.successResultOf(each) for each in results])
        self.assertEqual(list("aaa"), self.done)

    def test_room_for_recent_answers(self) -> None:
        """What was not asked for the longest goes when there is no room; what is larger than all room is not kept."""
        for name, size in (("a", 40), ("b", 40)):
            self.work.keep(name, name, size)
        self.work.kept("a")
        self.work.keep("c", "c", 40)
        self.assertEqual(["a", None, "c"], [self.work.kept(name) for name in "abc"])
        self.work.keep("a", "again", 60)
        self.assertEqual(["again", "c"], [self.work.kept(name) for name in "ac"])
        self.work.keep("d", "d", 101)
        self.assertEqual(["again", "c", None], [self.work.kept(name) for name in "acd"])

    def test_client_leaves_the_queue(self) -> None:
        """What its client does not wait for any more is dropped, and the next one has its turn."""
        left = self.begin(self.work.do(self.steps("a")))
        other = self.begin(self.work.do(self.steps("b")))
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.turns(10)
        self.assertEqual("B", self.successResultOf(other))
        self.assertEqual(list("abbb"), self.done)

    def test_too_many_are_turned_away(self) -> None:
        """A flood is asked to come again, and holds nothing."""
        waiting = [self.begin(self.work.do(self.steps("a", 1))) for _ in range(MOST_WAITING + 1)]
        self.failureResultOf(self.begin(self.work.do(self.steps("b"))), UnavailableError)
        self.turns(2 * MOST_WAITING)
        self.assertEqual({"A"}, {self.successResultOf(each) for each in waiting})

    def test_failure_is_not_kept(self) -> None:
        """What fails fails for who asked, and is not kept."""

        def failing() -> Iterator[None]:
            yield
            raise ValueError("as asked")

        self.failureResultOf(self.begin(self.work.once("k", failing, len)), ValueError)  # type: ignore[arg-type]
        result = self.begin(self.work.once("k", lambda: self.steps("a", 0), len))
        self.assertEqual("A", self.successResultOf(result))

    def test_steps_done_at_once(self) -> None:
        """The same steps can be done in one go."""
        self.assertEqual("A", finish(self.steps("a")))
