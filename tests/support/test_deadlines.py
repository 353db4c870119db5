"""Patience ends for many at a time, and not before it has been shown."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.deadlines import STEP_MS, Deadlines


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.1)
        self.deadlines = Deadlines(self.clock)
        self.ended: list[tuple[str, bool]] = []

    def wait(self, name: str, patience_ms: int) -> Deferred[object]:
        waiting: Deferred[object] = Deferred()
        together = self.deadlines.add(waiting, patience_ms)

        def failed(failure: Failure) -> None:
            together.forget(waiting)
            self.ended.append((name, self.deadlines.is_over(failure)))
            failure.trap(CancelledError)

        def came(_: object) -> None:
            together.forget(waiting)

        waiting.addCallbacks(came, failed)
        return waiting

    def test_one_timer_for_many(self) -> None:
        """Those that began within the same quarter of a second share a timer, and end neither early nor much later."""
        for name in "abc":
            self.wait(name, 1000)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.clock.advance(0.999)
        self.assertEqual([], self.ended)
        self.clock.advance(STEP_MS / 1000)
        self.assertEqual([(name, True) for name in "abc"], sorted(self.ended))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_those_that_leave_are_no_deadline(self) -> None:
        """One that is cancelled by others is not late, nor is one that came in time."""
        self.wait("left", 1000).cancel()
        self.wait("came", 1000).callback(None)
        self.clock.advance(2)
        self.assertEqual([("left", False)], self.ended)

    def test_no_timer_without_waiters(self) -> None:
        """When all have come in time no timer is left."""
        for waiting in [self.wait(name, 1000) for name in "ab"]:
            self.assertEqual(1, len(self.clock.getDelayedCalls()))
            waiting.callback(None)
        self.assertEqual([], self.clock.getDelayedCalls())
