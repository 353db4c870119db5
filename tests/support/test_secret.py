from __future__ import annotations

import traceback

from twisted.logger import Logger, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.secret import Secret, reveal

SECRET = Secret("hidden")


class SecretTests(SynchronousTestCase):
    def test_shows_nowhere_when_printed(self) -> None:
        """It is not shown by any way of printing, nor in a log line, nor in an error."""
        log = Logger()
        with capturedLogs() as events:
            log.info("it is {secret}, {secret!r}, {all}", secret=SECRET, all=[SECRET])
        try:
            raise ValueError(SECRET)
        except ValueError:
            lines = traceback.format_exc()
        shown = [
            str(SECRET),
            repr(SECRET),
            f"{SECRET:>9}",
            str([SECRET]),
            str({"a": SECRET}),
            lines,
            str(formatEvent(events[0])),
        ]
        self.assertEqual([], [each for each in shown if "hidden" in each])

    def test_is_text_where_meant(self) -> None:
        """It can be compared, measured and encoded, and revealed where that is meant."""
        self.assertEqual(("hidden", 6, b"hidden"), (SECRET, len(SECRET), SECRET.encode()))
        self.assertEqual("it is hidden", f"it is {reveal(SECRET)}")
        self.assertIs(str, type(reveal(SECRET)))
        self.assertEqual("plain", reveal("plain"))
