"""Attempts to reach another server: what they say, how they end, and how long they may take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.relay.failure import FailureKind, Patience, RelayFailure
from rapidrtmp.relay.outgoing import Attempt, Intent, make_connect
from rapidrtmp.rtmp import replies
from rapidrtmp.rtmp.amf0 import write_values
from rapidrtmp.rtmp.events import ConnectRequested, PublishRequested, VideoReceived
from rapidrtmp.rtmp.remote import parse_address
from tests.relay.servers import Network, Script


class Owner:
    """Notes what becomes of an attempt."""

    def __init__(self) -> None:
        self.accepted_by: list[Attempt] = []
        self.events: list[Any] = []
        self.full: list[bool] = []
        self.failures: list[RelayFailure] = []

    def accepted(self, attempt: Attempt) -> None:
        self.accepted_by.append(attempt)

    def event_received(self, event: Any) -> None:
        self.events.append(event)

    def backlogged(self, *, is_full: bool) -> None:
        self.full.append(is_full)

    def failed(self, failure: RelayFailure) -> None:
        self.failures.append(failure)


NEEDED = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : "
CHALLENGE = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=me&salt=x&challenge=y"


class OutgoingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.owner = Owner()

    def attempt(
        self, url: str = "rtmp://one/live", key: str = "k3y-secret", intent: Intent = Intent.PUBLISH
    ) -> Attempt:
        attempt = Attempt(self.network.outgoing, self.owner, parse_address(url, key), intent)
        attempt.start()
        self.network.carry()
        return attempt

    @property
    def failure(self) -> RelayFailure:
        (failure,) = self.owner.failures
        return failure


class AttemptTests(OutgoingTestCase):
    def test_publish_says_what_servers_want(self) -> None:
        """The application is connected to by the URL without the key, and the key is published, live."""
        self.network.servers["one"] = Script()
        attempt = self.attempt()
        (server,) = self.network.connections
        connect, publish = server.of(ConnectRequested)[0], server.of(PublishRequested)[0]
        said = connect.properties
        self.assertEqual(("live", "rtmp://one/live", "rtmp://one/live"), (said["app"], said["tcUrl"], said["swfUrl"]))
        self.assertTrue(said["flashVer"].startswith("FMLE/3.0"))
        self.assertEqual(("k3y-secret", "live"), (publish.key, publish.kind))
        self.assertEqual([attempt], self.owner.accepted_by)

    def test_end_is_clean(self) -> None:
        """FCUnpublish and deleteStream are said before the connection is closed; no timer is left."""
        self.network.servers["one"] = Script()
        attempt = self.attempt()
        (server,) = self.network.connections
        attempt.stop()
        self.assertEqual("closed", server.transport.closed)
        self.network.carry()
        self.assertTrue(server.has_ended)
        server.drop()
        self.assertEqual([], self.owner.failures)
        self.assertEqual([], self.network.clock.getDelayedCalls())

    def test_last_words_have_a_deadline(self) -> None:
        """A server that does not read the last words is cut off."""
        self.network.servers["one"] = Script()
        attempt = self.attempt()
        attempt.stop()
        self.network.clock.advance(2.0)
        self.assertTrue(self.network.connections[0].transport.disconnected)

    def test_media_reaches_its_player(self) -> None:
        """What a server sends of a play goes to the owner."""
        self.network.servers["one"] = Script()
        self.attempt(intent=Intent.PLAY)
        server = self.network.connections[0]
        server.session.send_video(40, b"picture")
        self.network.carry()
        self.assertIn(VideoReceived(1, 40, b"picture"), self.owner.events)

    def test_no_server_is_network_trouble(self) -> None:
        """A refused TCP connection is a matter of the network."""
        self.attempt()
        self.assertEqual(FailureKind.NETWORK, self.failure.kind)
        self.assertEqual([], self.network.clock.getDelayedCalls())

    def test_connecting_has_a_deadline(self) -> None:
        """A host that does not answer is given up after five seconds."""
        self.network.servers["one"] = None
        self.attempt()
        self.network.wait(4.75)
        self.assertEqual([], self.owner.failures)
        self.network.wait(0.25)
        self.assertEqual(RelayFailure(FailureKind.NETWORK, "no connection within 5 s"), self.failure)

    def test_silent_server_has_a_deadline(self) -> None:
        """A server that accepts a connection and says nothing is given up after ten seconds."""
        self.network.servers["one"] = Script(hangs=True)
        self.attempt()
        self.network.wait(9.75)
        self.assertEqual([], self.owner.failures)
        self.network.wait(0.25)
        self.assertEqual(RelayFailure(FailureKind.NETWORK, "no answer within 10 s"), self.failure)
        self.assertEqual("aborted", self.network.connections[0].transport.closed)

    def test_refusals_say_what_they_are(self) -> None:
        """A name in use, a missing stream, a loop and any other refusal are distinguished."""
        for script, intent, kind in (
            (Script(publish=("NetStream.Publish.BadName", "in use")), Intent.PUBLISH, FailureKind.BUSY),
            (Script(publish=("NetStream.Publish.Denied", "no")), Intent.PUBLISH, FailureKind.REFUSED),
            (Script(connect=("NetConnection.Connect.InvalidApp", "no")), Intent.PUBLISH, FailureKind.REFUSED),
            (Script(connect=("NetConnection.Connect.Rejected", "relay loop: …")), Intent.PLAY, FailureKind.LOOP),
            (Script(play=("NetStream.Play.StreamNotFound", "no")), Intent.PLAY, FailureKind.ABSENT),
        ):
            self.owner.failures.clear()
            self.network.servers["one"] = script
            self.attempt(intent=intent)
            self.assertEqual(kind, self.failure.kind)

    def test_refusals_repeat_no_key(self) -> None:
        """A server that repeats the key in its refusal does not bring it into our log."""
        self.network.servers["one"] = Script(publish=("NetStream.Publish.Denied", "k3y-secret?t=42abc is not known"))
        self.attempt(key="k3y-secret?t=42abc")
        self.assertNotIn("k3y-secret", self.failure.reason)
        self.assertNotIn("42abc", self.failure.reason)
        self.assertIn("is not known", self.failure.reason)

    def test_loops_are_known_whatever_the_key(self) -> None:
        """A refusal for a loop keeps its words, also where the key is one of them."""
        self.network.servers["one"] = Script(connect=("NetConnection.Connect.Rejected", "Relay loop: loop was here"))
        self.attempt(key="loop")
        self.assertEqual(FailureKind.LOOP, self.failure.kind)
        self.assertIn("relay loop: **** was here", self.failure.reason)

    def test_protocol_error_ends_it(self) -> None:
        """A server that does not speak RTMP is reported in the words of the error."""
        self.network.servers["one"] = Script(hangs=True)
        self.attempt()
        self.network.connections[0].client.dataReceived(b"HTTP/1.1 400 Bad Request")
        self.assertIn("RTMP protocol error", self.failure.reason)

    def test_wrong_certificates_are_distinguished(self) -> None:
        """A certificate that is not trusted is no network trouble."""
        self.network.servers["one"] = Script(hangs=True)
        self.attempt()
        error = SSL.Error([("SSL routines", "", "certificate verify failed")])
        self.network.connections[0].drop(error)
        self.assertEqual(RelayFailure(FailureKind.CERTIFICATE, "TLS: certificate verify failed"), self.failure)

    def test_bad_trust_file_is_named(self) -> None:
        """A file of certificates that cannot be read is named."""
        outgoing = replace(self.network.outgoing, connect=make_connect(self.network.clock))
        Attempt(outgoing, self.owner, parse_address("rtmps://one/a", "k"), Intent.PLAY, ca="/nowhere/ca.pem").start()
        self.assertIn("/nowhere/ca.pem", self.failure.reason)


class RedirectTests(OutgoingTestCase):
    def redirect(self, to: str) -> bytes:
        information = {"level": "error", "code": "NetConnection.Connect.Rejected", "ex": {"code": 302, "redirect": to}}
        return write_values("_error", 1, None, information)

    def answer(self, to: str) -> None:
        server = self.network.connections[-1]
        server.session._outbox.send_answer(self.redirect(to))
        server.client.dataReceived(server.session.data_to_send())

    def silent(self, *hosts: str) -> None:
        """Servers that answer the handshake, and no connect."""
        for host in hosts:
            self.network.servers[host] = Script()
        self.patch(type(self.network), "carry", lambda network: None)

    def shake(self) -> None:
        server = self.network.connections[-1]
        server.session.receive_data(server.transport.value())
        server.transport.clear()
        list(server.session.events())
        server.client.dataReceived(server.session.data_to_send())

    def test_redirect_is_followed(self) -> None:
        """A rejected connect that names another server leads there, and the first connection is closed."""
        self.silent("one", "two")
        self.attempt()
        self.shake()
        self.answer("rtmp://two/live/k3y-secret")
        self.assertEqual(["one", "two"], self.network.asked)
        self.assertEqual("closed", self.network.connections[0].transport.closed)
        self.assertEqual([], self.owner.failures)

    def test_redirects_come_to_an_end(self) -> None:
        """The fourth redirect of one attempt is a refusal."""
        self.silent("one")
        self.attempt()
        for _ in range(4):
            self.shake()
            self.answer("rtmp://one/live/k3y-secret")
        self.assertEqual(FailureKind.REFUSED, self.failure.kind)
        self.assertEqual(4, len(self.network.connections))

    def test_tls_is_kept(self) -> None:
        """A redirect from TLS to plain RTMP is refused."""
        self.silent("one")
        self.attempt("rtmps://one/live")
        self.shake()
        self.answer("rtmp://one/live")
        self.assertEqual(FailureKind.REFUSED, self.failure.kind)
        self.assertNotIn("k3y-secret", self.failure.reason)

    def test_password_is_answered_for(self) -> None:
        """A server that asks for a user and a password gets the answer to its challenge, and never the password."""
        self.network.servers["one"] = Script(challenges=[NEEDED, CHALLENGE])
        self.attempt("rtmp://me:passw0rd@one/live?x=1")
        said = [server.of(ConnectRequested)[0].properties["tcUrl"] for server in self.network.connections]
        self.assertEqual("rtmp://one/live?x=1", said[0])
        self.assertEqual("rtmp://one/live?x=1&authmod=adobe&user=me", said[1])
        self.assertRegex(said[2], r"\?x=1&authmod=adobe&user=me&challenge=00000000&response=.+==$")
        self.assertNotIn("passw0rd", "".join(said))
        self.assertEqual(1, len(self.owner.accepted_by))
        self.assertEqual(["closed", "closed", ""], [server.transport.closed for server in self.network.connections])

    def test_password_that_is_not_taken(self) -> None:
        """A password that is wrong, or missing, is a refusal, in words that hold none of it."""
        for url, challenges in (
            ("rtmp://one/live", [NEEDED]),
            ("rtmp://me:passw0rd@one/live", [NEEDED, CHALLENGE, CHALLENGE.replace("needauth", "authfailed")]),
            ("rtmp://me:passw0rd@one/live", [NEEDED, CHALLENGE, CHALLENGE, CHALLENGE]),
        ):
            self.setUp()
            self.network.servers["one"] = Script(challenges=challenges)
            self.attempt(url)
            self.assertEqual(FailureKind.REFUSED, self.failure.kind)
            self.assertIn("password", self.failure.reason)
            self.assertNotIn("passw0rd", self.failure.reason)

    def test_reconnect_request_moves(self) -> None:
        """A server that asks for another connection ends this one, and says where to go."""
        self.network.servers["one"] = Script()
        self.attempt()
        server = self.network.connections[0]
        server.session._outbox.send_status(0, replies.write_reconnect_request("moving", "rtmp://two/live"))
        self.network.carry()
        self.assertEqual(FailureKind.MOVED, self.failure.kind)
        self.assertEqual("rtmp://two/live", self.failure.redirect)
        self.assertTrue(server.has_ended)


class PatienceTests(SynchronousTestCase):
    def test_waits_double_up_to_half_a_minute(self) -> None:
        """Between attempts over a bad network the wait doubles from one second to thirty."""
        patience = Patience(lambda: 0.5)
        waits = [patience.delay_s(FailureKind.NETWORK, 0) for _ in range(7)]
        self.assertEqual([1, 2, 4, 8, 16, 30, 30], waits)

    def test_chance_moves_each_wait(self) -> None:
        """Chance makes a wait up to a quarter shorter or longer."""
        waits = [Patience(lambda chance=chance: chance).delay_s(FailureKind.NETWORK, 0) for chance in (0.0, 1.0)]
        self.assertEqual([0.75, 1.25], waits)

    def test_health_forgives_failures(self) -> None:
        """After a minute of health the first wait is short again; after less it is not."""
        patience = Patience(lambda: 0.5)
        for _ in range(5):
            patience.delay_s(FailureKind.NETWORK, 0)
        self.assertEqual(30, patience.delay_s(FailureKind.NETWORK, 59))
        self.assertEqual(1, patience.delay_s(FailureKind.NETWORK, 60))

    def test_refusals_have_waits_of_their_own(self) -> None:
        """A name in use is asked for again soon, a refusal once a minute, a missing stream ever more rarely."""
        patience = Patience(lambda: 0.5)
        self.assertEqual(10, patience.delay_s(FailureKind.BUSY, 0))
        for kind in (FailureKind.REFUSED, FailureKind.CERTIFICATE, FailureKind.LOOP):
            self.assertEqual(60, patience.delay_s(kind, 0))
        self.assertEqual([5, 10, 20, 40, 60], [patience.delay_s(FailureKind.ABSENT, 0) for _ in range(5)])
        self.assertEqual(0, patience.delay_s(FailureKind.MOVED, 0))
