"""What is good no more, where it is kept, and who else learns of it."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.auth.revocation import KEY, REFRESH_S, Revocations, fingerprint_of
from rapidrtmp.errors import StorageError
from rapidrtmp.names import StreamName
from rapidrtmp.storage.memory import MemoryStorage

NAME, OTHER = StreamName("live", "k"), StreamName("live", "other")
TOKEN = fingerprint_of("a token")


class RevocationsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now_ms = 1_800_000_000_000
        self.storage = MemoryStorage(lambda: self.now_ms)
        self.clock = Clock()
        self.revocations = self.make()

    def make(self) -> Revocations:
        """Those of a server that has just started."""
        made = Revocations(lambda: self.now_ms, lambda: self.storage)
        self.assertIsNone(self.successResultOf(made.start(self.clock)))
        self.addCleanup(made.stop)
        return made

    def done(self, waiting: Deferred[None]) -> None:
        self.assertIsNone(self.successResultOf(waiting))


class ListTests(RevocationsCase):
    def test_revoked_token_is_refused_everywhere(self) -> None:
        """A revoked token is refused for every stream, and no other one is."""
        self.assertEqual("", self.revocations.refusal(NAME, TOKEN, 5))
        self.done(self.revocations.revoke_token(TOKEN))
        for stream in (NAME, OTHER):
            self.assertIn("revoked", self.revocations.refusal(stream, TOKEN, None))
        self.assertEqual("", self.revocations.refusal(NAME, fingerprint_of("another"), None))

    def test_revoked_stream_by_issue_time(self) -> None:
        """Tokens of a stream are refused by when they were issued; where that is not known they are not."""
        self.done(self.revocations.revoke_stream(NAME))
        self.assertIn("revoked", self.revocations.refusal(NAME, TOKEN, self.now_ms))
        for stream, issued_ms in ((NAME, self.now_ms + 1), (NAME, None), (OTHER, self.now_ms)):
            self.assertEqual("", self.revocations.refusal(stream, TOKEN, issued_ms))

    def test_restart_keeps_the_list(self) -> None:
        """What was revoked stays so for the next server, and nothing that is stored is a token."""
        self.done(self.revocations.revoke_token(TOKEN))
        self.done(self.revocations.revoke_stream(NAME))
        again = self.make()
        self.assertIn("revoked", again.refusal(OTHER, TOKEN, None))
        self.assertIn("revoked", again.refusal(NAME, "", self.now_ms))

    def test_two_servers_share_a_list(self) -> None:
        """Servers that share a storage add to one list, and learn of each other's within a minute."""
        other = self.make()
        self.done(other.revoke_token(TOKEN))
        self.done(self.revocations.revoke_stream(NAME))
        self.assertIn("revoked", self.revocations.refusal(NAME, TOKEN, None))
        before = other.version
        self.clock.advance(REFRESH_S)
        self.assertIn("revoked", other.refusal(NAME, "", self.now_ms))
        self.assertGreater(other.version, before)

    def test_expired_token_is_forgotten(self) -> None:
        """A token that has expired by itself is forgotten."""
        self.done(self.revocations.revoke_token(TOKEN, self.now_ms + 1000))
        self.now_ms += 1001
        self.clock.advance(REFRESH_S)
        self.assertEqual("", self.revocations.refusal(NAME, TOKEN, None))

    def test_storage_that_fails(self) -> None:
        """Where the list cannot be stored the caller learns it, and it holds all the same until the server ends."""
        self.patch(self.storage, "put", lambda *_: fail(StorageError("no room", retryable=True)))
        self.failureResultOf(self.revocations.revoke_token(TOKEN), StorageError)
        self.assertIn("revoked", self.revocations.refusal(NAME, TOKEN, None))

    def test_damaged_list_is_written_anew(self) -> None:
        """A list that cannot be read is reported, stops nothing, and is written anew."""
        for damage in (b"{", b"[]", b'{"tokens": 3, "streams": {}, "uses": {}}', b'{"tokens": {"a": 1e999}}'):
            self.storage.put(KEY, damage, "application/json", "no-store")
            with capturedLogs() as events:
                made = self.make()
            self.assertEqual([LogLevel.error], [event["log_level"] for event in events])
            self.done(made.revoke_token(TOKEN))
            self.assertIn("revoked", self.make().refusal(NAME, TOKEN, None))


class SessionTests(RevocationsCase):
    def begin(self, where: str = "live/k") -> None:
        self.assertEqual("", self.revocations.session_refusal(TOKEN, where))
        self.revocations.begin_session(TOKEN, where, 30, None)

    def test_reconnect_resumes_the_session(self) -> None:
        """A session can be resumed within its time after the end, again and again, and not later."""
        for _ in range(3):
            self.begin()
            self.now_ms += 500_000
            self.revocations.end_session(TOKEN)
            self.now_ms += 30_000
        self.begin()
        self.revocations.end_session(TOKEN)
        self.now_ms += 30_001
        self.assertIn("is over", self.revocations.session_refusal(TOKEN, "live/k"))

    def test_session_elsewhere_is_refused(self) -> None:
        """It is for one place."""
        self.begin()
        self.assertIn("elsewhere", self.revocations.session_refusal(TOKEN, "live/other"))

    def test_take_over_keeps_one_session(self) -> None:
        """While one connection takes over from another the session is one, and lasts until both are gone."""
        self.begin()
        self.begin()
        self.revocations.end_session(TOKEN)
        self.now_ms += 60_000
        self.assertEqual("", self.revocations.session_refusal(TOKEN, "live/k"))

    def test_restart_keeps_the_session(self) -> None:
        """After a restart of the server the session can be resumed for as long as after an end; then it is over."""
        self.begin()
        again = self.make()
        self.assertEqual("", again.session_refusal(TOKEN, "live/k"))
        self.assertIn("elsewhere", again.session_refusal(TOKEN, "live/other"))
        self.now_ms += 30_001
        self.assertIn("is over", again.session_refusal(TOKEN, "live/k"))
