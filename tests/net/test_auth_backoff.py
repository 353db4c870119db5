"""Which clients were refused too often."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.names import StreamName
from rapidrtmp.net.auth_backoff import AuthBackoff
from rapidrtmp.support.backoff import MAX_CLIENTS

NAME, OTHER = StreamName("live", "mine"), StreamName("live", "other")


class AuthBackoffTests(SynchronousTestCase):
    """So many wrong guesses a minute, and what they cost."""

    def test_allowance_of_each_client(self) -> None:
        """After as many refusals as are allowed a client waits, and no other does."""
        backoff = AuthBackoff(per_minute=3)
        waits = []
        for _ in range(5):
            waits.append(backoff.wait_ms("a", NAME, 0))
            backoff.refused("a", 0)
        self.assertEqual([0, 0, 0, 20_000, 20_000], waits)
        self.assertEqual(0, backoff.wait_ms("b", NAME, 0))

    def test_wearing_off_frees_attempts(self) -> None:
        """One more attempt is allowed as soon as one refusal has worn off, and all of them after a minute."""
        backoff = AuthBackoff(per_minute=3)
        for _ in range(3):
            backoff.refused("a", 0)
        self.assertEqual(1, backoff.wait_ms("a", NAME, 19_999))
        self.assertEqual(0, backoff.wait_ms("a", NAME, 20_000))
        backoff.refused("a", 20_000)
        self.assertEqual(20_000, backoff.wait_ms("a", NAME, 20_000))
        for _ in range(3):
            self.assertEqual(0, backoff.wait_ms("a", NAME, 80_000))
            backoff.refused("a", 80_000)

    def test_publishers_come_back(self) -> None:
        """A name that was published from an address may be asked for from there, whatever else is guessed there."""
        backoff = AuthBackoff(per_minute=1)
        backoff.admitted("a", NAME)
        backoff.refused("a", 0)
        self.assertEqual(0, backoff.wait_ms("a", NAME, 0))
        self.assertGreater(backoff.wait_ms("a", OTHER, 0), 0)

    def test_zero_is_no_limit(self) -> None:
        """Zero is no limit."""
        backoff = AuthBackoff(per_minute=0)
        for _ in range(100):
            backoff.refused("a", 0)
        self.assertEqual(0, backoff.wait_ms("a", NAME, 0))

    def test_memory_of_clients_is_bounded(self) -> None:
        """A million clients are not remembered: the oldest are forgotten."""
        backoff = AuthBackoff(per_minute=1)
        for number in range(MAX_CLIENTS + 1):
            backoff.refused(str(number), 0)
        self.assertEqual(0, backoff.wait_ms("0", NAME, 0))
        self.assertGreater(backoff.wait_ms("1", NAME, 0), 0)
