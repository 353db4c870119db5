"""Durations that nothing on the host disturbs, and dates that follow it."""

from __future__ import annotations

import time
from unittest.mock import patch

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.clock import keep_monotonic, now_ms, utc_ms


class IdleReactor(ReactorBase):
    """One of Twisted's, but for what it would wait for."""

    def installWaker(self) -> None:
        """There is nothing to wake it from."""


class ClockTests(SynchronousTestCase):
    def test_now_in_whole_milliseconds(self) -> None:
        """A reactor's seconds as whole milliseconds."""
        clock = Clock()
        clock.advance(1.2345)
        self.assertEqual(1_234, now_ms(clock))

    def test_time_of_day(self) -> None:
        """The time of day is the host's of this moment, also after it was set."""
        for day_ns in (1_767_225_600_000_000_000, 1_767_225_580_500_000_000):
            with patch("time.time_ns", lambda at=day_ns: at):
                self.assertEqual(day_ns // 1_000_000, utc_ms())


class MonotonicReactorTests(SynchronousTestCase):
    def test_stock_reactor_becomes_monotonic(self) -> None:
        """A reactor of Twisted's reckons by the monotonic clock from then on; what waited waits as long as before."""
        reactor, called = IdleReactor(), []
        gone = reactor.callLater(5, called.append, "cancelled")
        reactor.callLater(0, called.append, "soon")
        late = reactor.callLater(60, called.append, "late")
        reactor.timeout()
        gone.cancel()
        keep_monotonic(reactor)
        self.assertApproximates(time.monotonic(), reactor.seconds(), 5)
        self.assertApproximates(60, late.getTime() - reactor.seconds(), 5)
        reactor.runUntilCurrent()
        self.assertEqual(["soon"], called)
        self.assertApproximates(60, reactor.timeout() or 0, 5)
        late.reset(30)
        self.assertApproximates(30, reactor.timeout() or 0, 5)
        for call in reactor.getDelayedCalls():
            call.cancel()

    def test_second_time_changes_nothing(self) -> None:
        """A second time changes nothing, nor does it to a clock that is not the host's."""
        reactor, clock = IdleReactor(), Clock()
        keep_monotonic(reactor)
        waiting = reactor.callLater(60, int)
        keep_monotonic(reactor)
        self.assertApproximates(60, waiting.getTime() - time.monotonic(), 5)
        waiting.cancel()
        keep_monotonic(clock)
        self.assertEqual(0.0, clock.seconds())
