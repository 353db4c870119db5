from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.timeline.storm import StormWatch


class StormWatchTests(SynchronousTestCase):
    def told(self, *breaks_ms: int) -> list[bool]:
        watch = StormWatch(5, 10_000)
        return [watch.broken("timestamp jump", now_ms) is not None for now_ms in breaks_ms]

    def test_now_and_then(self) -> None:
        """A few breaks at once, and any number of them with time in between, are no storm."""
        self.assertEqual([False] * 9, self.told(0, 1, 2, 3, *range(10_001, 60_000, 10_000)))
        self.assertEqual([False] * 40, self.told(*range(0, 40 * 2_501, 2_501)))

    def test_storm_is_reported_once(self) -> None:
        """The fifth break within ten seconds is reported, with the numbers, and none after it."""
        self.assertEqual([False] * 4 + [True] + [False] * 9, self.told(*range(0, 35_000, 2_500)))
        watch = StormWatch(2, 10_000)
        watch.broken("codec config changed", 5)
        self.assertEqual("the stream broke off 2 times in 700 ms (timestamp jump)", watch.broken("timestamp jump", 705))
