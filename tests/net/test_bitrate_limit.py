"""The bit rate that one publisher may send."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.bitrate_limit import BitrateLimit


class BitrateLimitTests(SynchronousTestCase):
    """A limit of 8 kbit/s, so of a byte a millisecond."""

    def test_at_the_limit(self) -> None:
        """A publisher that sends just what it may is never closed."""
        limit = BitrateLimit(8_000, received_bytes=500, time_ms=0)
        self.assertFalse(any(limit.is_exceeded(500 + ms, ms) for ms in range(0, 100_000, 250)))

    def test_excess_above_the_limit_is_noticed(self) -> None:
        """Twice the limit is noticed as soon as ten seconds' worth came in excess."""
        limit = BitrateLimit(8_000, received_bytes=0, time_ms=0)
        exceeded = [ms for ms in range(250, 15_000, 250) if limit.is_exceeded(2 * ms, ms)]
        self.assertEqual(10_250, exceeded[0])

    def test_burst_of_ten_seconds_is_allowed(self) -> None:
        """Ten seconds' worth may come at once, and again when the first has worn off."""
        limit = BitrateLimit(8_000, received_bytes=0, time_ms=0)
        self.assertFalse(limit.is_exceeded(10_000, 0))
        self.assertFalse(limit.is_exceeded(20_000, 10_000))
        self.assertTrue(limit.is_exceeded(20_001, 10_000))

    def test_zero_is_no_limit(self) -> None:
        """Zero is no limit."""
        self.assertFalse(BitrateLimit(0, received_bytes=0, time_ms=0).is_exceeded(10**12, 1))
