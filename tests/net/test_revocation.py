"""Publishers whose tokens are revoked, or are for one session."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.auth.revocation import fingerprint_of
from rapidrtmp.interfaces import Verdict
from rapidrtmp.testing.sinks import STARTED_AT_MS
from tests.net.edge import NAME, Edge, Peer

TOKEN = fingerprint_of("secret")


class EdgeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.close)

    def assert_refused(self, peer: Peer, words: str) -> None:
        status = peer.statuses()[-1]
        self.assertEqual("NetStream.Publish.Denied", status[1])
        self.assertIn(words, status[2])
        self.assertTrue(peer.is_closed)


class RevokedTests(EdgeCase):
    def test_publisher_is_disconnected(self) -> None:
        """A publisher whose token is revoked gets the reason and is disconnected within a second."""
        peer = self.edge.publisher()
        self.edge.revocations.revoke_token(TOKEN)
        self.edge.wait(1)
        self.assert_refused(peer, "revoked")

    def test_revoked_publisher_cannot_come_back(self) -> None:
        """It cannot come back with it, and one with another token can."""
        self.edge.revocations.revoke_token(TOKEN)
        self.assert_refused(self.edge.peer().connect().publish(), "revoked")
        other = self.edge.peer().connect().publish("k?token=another")
        self.assertEqual("NetStream.Publish.Start", other.statuses()[-1][1])

    def test_all_of_a_stream(self) -> None:
        """Tokens of a stream issued up to now are revoked; publishers of other tokens and streams stay."""
        self.edge.authenticator.answer = Verdict(True, credential="c", issued_ms=STARTED_AT_MS)
        peer, other = self.edge.publisher(), self.edge.peer().connect().publish("other?token=t")
        other.heard()
        self.edge.revocations.revoke_stream(NAME)
        self.edge.wait(1)
        self.assert_refused(peer, "revoked")
        self.assertFalse(other.is_closed)
        self.edge.authenticator.answer = Verdict(True, credential="c", issued_ms=STARTED_AT_MS + 1)
        self.assertFalse(self.edge.publisher().is_closed)

    def test_fingerprint_is_not_the_token(self) -> None:
        """The stream knows what the token of its latest publisher is known by, and not the token."""
        self.edge.publisher().leave()
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual(TOKEN, stream.fingerprint)


class OneSessionTests(EdgeCase):
    def setUp(self) -> None:
        super().setUp()
        self.edge.authenticator.answer = Verdict(True, credential="c", reconnect_s=10)

    def test_reconnect_in_the_same_session(self) -> None:
        """A token for one session serves a reconnect in time, however often, and none that comes later."""
        for _ in range(2):
            self.edge.publisher().leave()
            self.edge.wait(5)
        peer = self.edge.publisher()
        self.assertFalse(peer.is_closed)
        peer.leave()
        self.edge.wait(10.5)
        self.assert_refused(self.edge.peer().connect().publish(), "one session, which is over")

    def test_other_stream_is_refused_meanwhile(self) -> None:
        """While it is used it serves no other stream."""
        self.edge.publisher()
        self.assert_refused(self.edge.peer().connect().publish("other?token=secret"), "in use elsewhere")

    def test_take_over_in_the_session(self) -> None:
        """A new connection takes over from a silent one in the same session."""
        self.edge.publisher()
        self.edge.wait(2)
        self.assertFalse(self.edge.publisher().is_closed)
        self.edge.wait(20)
        self.assertFalse(self.edge.publisher().is_closed)

    def test_refused_attempt_begins_no_session(self) -> None:
        """An attempt that is refused because another connection publishes does not begin a session."""
        self.edge.authenticator.answer = Verdict(True, credential="first")
        first = self.edge.peer().connect().publish("k?token=first")
        self.edge.authenticator.answer = Verdict(True, credential="c", reconnect_s=1)
        refused = self.edge.peer().connect().publish()
        self.assertEqual("NetStream.Publish.BadName", refused.statuses()[-1][1])
        first.leave()
        self.edge.wait(3)
        self.assertFalse(self.edge.publisher().is_closed)
