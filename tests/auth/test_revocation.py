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


class ProcessesTests(RevocationsCase):
    """Two processes of one server, without a storage that they share."""

    def setUp(self) -> None:
        self.now_ms = 1_800_000_000_000
        self.one, self.other = (Revocations(lambda: self.now_ms) for _ in range(2))
        for name, speaker, hearer in (("one", self.one, self.other), ("other", self.other, self.one)):
            speaker.changed = lambda changed, name=name, speaker=speaker, hearer=hearer: self.tell(
                name, speaker, hearer, frozenset(changed)
            )

    def tell(self, name: str, speaker: Revocations, hearer: Revocations, changed: frozenset[str]) -> None:
        contested = hearer.learn(name, speaker.describe(changed))
        speaker.learn("other" if name == "one" else "one", hearer.describe(contested))

    def test_revoked_at_one_is_refused_at_all(self) -> None:
        """A token, or all of a stream, that one process revokes is refused by the other at once."""
        self.done(self.one.revoke_token(TOKEN))
        self.done(self.other.revoke_stream(NAME))
        for each in (self.one, self.other):
            self.assertIn("revoked", each.refusal(OTHER, TOKEN, None))
            self.assertIn("revoked", each.refusal(NAME, "", self.now_ms))
            self.assertEqual(2, each.version)

    def test_session_is_in_one_place_at_all(self) -> None:
        """A credential in use at one process cannot be used elsewhere at another, and is over at both."""
        self.one.begin_session(TOKEN, "live/k", 10, None)
        self.assertIn("in use elsewhere", self.other.session_refusal(TOKEN, "live/z"))
        self.assertEqual("", self.other.session_refusal(TOKEN, "live/k"))
        self.one.end_session(TOKEN)
        self.now_ms += 10_001
        self.assertIn("is over", self.other.session_refusal(TOKEN, "live/k"))

    def test_session_moves_with_its_client(self) -> None:
        """A client that returns to another process keeps its session there, though the first one ends it then."""
        self.one.begin_session(TOKEN, "live/k", 10, None)
        self.other.begin_session(TOKEN, "live/k", 10, None)
        self.one.end_session(TOKEN)
        self.now_ms += 60_000
        for each in (self.one, self.other):
            self.assertEqual("", each.session_refusal(TOKEN, "live/k"))

    def test_session_of_dead_process_ends(self) -> None:
        """The session at a process that is no more may be resumed for as long as any, and is over then."""
        self.one.begin_session(TOKEN, "live/k", 10, None)
        self.now_ms += 60_000
        self.assertEqual({"one"}, self.other.sources)
        self.other.lose("one")
        self.assertEqual("", self.other.session_refusal(TOKEN, "live/k"))
        self.now_ms += 10_001
        self.assertIn("is over", self.other.session_refusal(TOKEN, "live/k"))

    def test_player_that_continues_is_known(self) -> None:
        """A player that asks one process again and again is in its session at the other too."""
        for _ in range(3):
            self.assertEqual("", self.one.continue_session(TOKEN, "client", 10, None))
            self.other.learn("one", {"uses": self.one.take_continued()})
            self.now_ms += 9_000
        self.assertEqual("", self.other.session_refusal(TOKEN, "client"))
        self.assertEqual({}, self.one.take_continued())
        self.now_ms += 2_000
        self.assertIn("is over", self.other.continue_session(TOKEN, "client", 10, None))


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
