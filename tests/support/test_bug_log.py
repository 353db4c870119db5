"""What should not be is logged once per burst, whatever the rate."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.bug_log import BugLog


class BugLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.bugs = BugLog(Logger(), self.clock.seconds)

    def fail(self, kind: type[Exception], times: int = 1) -> None:  # type: ignore[override]
        for _ in range(times):
            try:
                raise kind("as asked")
            except Exception:
                self.bugs.failure("a bug in {what}", what="this")
            self.clock.advance(0.01)

    def test_burst_is_one_traceback(self) -> None:
        """One traceback, and after a quiet minute the next, with the count of those that were not logged."""
        with capturedLogs() as events:
            self.fail(KeyError, 400)
            self.clock.advance(61)
            self.fail(KeyError)
        self.assertEqual(2, len(self.flushLoggedErrors(KeyError)))
        counts = [event["count"] for event in events if "count" in event]
        self.assertEqual([400], counts)

    def test_kinds_are_logged_apart(self) -> None:
        """Another kind of error is news."""
        self.fail(KeyError, 3)
        self.fail(ValueError, 3)
        self.assertEqual((1, 1), (len(self.flushLoggedErrors(KeyError)), len(self.flushLoggedErrors(ValueError))))

    def test_known_reason_is_logged_once(self) -> None:
        """So is what fails for a known reason logged once."""
        with capturedLogs() as events:
            for _ in range(9):
                self.bugs.error("broke off: {error}", error="no")
        self.assertEqual(1, len(events))
